"""ModelDeployments in a cluster: read, changed and waited for, by way of kubectl."""
