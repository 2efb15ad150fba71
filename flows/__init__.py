"""The Prefect flows of toygan, and the command line that starts them."""
