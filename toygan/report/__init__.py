"""The run report: one HTML page with a contact sheet."""
