"""From a checked catalog to committed pictures: plan, compute, publish."""
