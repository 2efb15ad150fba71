"""The contracts of toygan: Arrow schemas and row checks for all input and output tables."""
