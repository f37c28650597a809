"""The AWS account, whoever asks: calls, tags, tries and waits."""
