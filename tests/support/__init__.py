"""What tests are built from: definitions, executions, the command line, accounts, and what the machine has."""
