"""The contract with users and pods: resource schema, conditions, reasons, operator settings."""
