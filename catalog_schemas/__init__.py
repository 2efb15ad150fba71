"""The contracts of toygan: what tables go in and out, as Arrow schemas with row checks."""
