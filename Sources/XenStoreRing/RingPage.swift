// The page that a guest and the daemon share.
