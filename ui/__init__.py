"""What the pages share: the shell around them, access, routes, live components, forms, cached loading, session keys."""
