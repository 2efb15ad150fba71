"""From a frozen plan to committed pictures: draw, judge, finish, publish."""
