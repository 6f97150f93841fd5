// The daemon's executable: a command line in, an exit status out.

import Glibc
import XenStoreHost

exit(XenstoredCommand.main(Array(CommandLine.arguments.dropFirst())))
