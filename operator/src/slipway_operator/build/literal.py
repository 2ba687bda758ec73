"""Text that Kubernetes hands to a container as it is."""


def literal(text: str) -> str:
    """Escape an argument or a variable so that nothing in it is taken for a reference.

    In both, Kubernetes puts the value of another variable for ``$(NAME)``, and ``$`` for ``$$``.
    """
    return text.replace("$", "$$")
