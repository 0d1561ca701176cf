"""The release on a real Kubernetes: whatever cluster KUBECONFIG names."""
