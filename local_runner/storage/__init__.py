"""What is kept on this machine: local S3, the directories of runs, whole files and locks."""
