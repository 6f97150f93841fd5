// Does the shared page keep its promises?

import Testing
