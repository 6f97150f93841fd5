// Does the client library keep its promises?

import Testing
