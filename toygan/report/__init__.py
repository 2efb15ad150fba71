"""The run report: a contact sheet that a person opens."""
