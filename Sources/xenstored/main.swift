// The daemon's executable: a command line in, an exit status out.

import Glibc
import XenStoreHost

let arguments = Array(CommandLine.arguments.dropFirst())
if arguments.first == "convert" { exit(ConvertCommand.main(Array(arguments.dropFirst()))) }
exit(XenstoredCommand.main(arguments))
