/* libyaml (Debian: libyaml-dev), the system's own header and nothing else. */
#include <yaml.h>
