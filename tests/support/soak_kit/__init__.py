"""Random life on a control plane: users, faults, and a judge that asks the operator nothing."""
