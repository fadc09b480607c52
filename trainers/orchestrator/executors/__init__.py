"""Who starts steps: processes of this machine, or Jobs of a Kubernetes cluster; both are one port."""
