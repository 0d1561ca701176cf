"""Tests of the release on a real Kubernetes cluster, the one that KUBECONFIG names."""
