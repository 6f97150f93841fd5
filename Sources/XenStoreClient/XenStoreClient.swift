// A client of any XenStore daemon.
