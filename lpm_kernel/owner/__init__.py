"""Who the owner is: the items of their data, their bio, and the facts in both."""
