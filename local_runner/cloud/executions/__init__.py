"""Executions in the account: started, followed, stopped, and what their jobs printed."""
