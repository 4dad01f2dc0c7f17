"""What any program needs: errors, files, names, progress, versions. Knows nothing of questions or
models."""
