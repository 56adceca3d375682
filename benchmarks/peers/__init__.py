"""Programs beside `qa`: what it is measured against, and who looks at it meanwhile."""
