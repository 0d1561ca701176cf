"""The protocols that clients speak, one package each."""
