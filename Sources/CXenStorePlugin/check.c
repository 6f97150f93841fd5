/* The header is plain C11, and its structs are laid out as every module ever built has them. */
#include "xenstore_plugin.h"

_Static_assert(sizeof(struct xenstore_bytes) == 16, "");
_Static_assert(sizeof(struct xenstore_option) == 32, "");
_Static_assert(sizeof(struct xenstore_failure) == 508, "");
_Static_assert(sizeof(struct xenstore_host) == 48, "");
_Static_assert(sizeof(struct xenstore_permission) == 4, "");
_Static_assert(sizeof(struct xenstore_backend) == 64, "");
_Static_assert(offsetof(struct xenstore_backend, close) == 32, "");
_Static_assert(sizeof(struct xenstore_subject) == 32, "");
_Static_assert(sizeof(struct xenstore_question) == 176, "");
_Static_assert(sizeof(struct xenstore_answer) == 32, "");
_Static_assert(sizeof(struct xenstore_outcome) == 24, "");
_Static_assert(sizeof(struct xenstore_interest) == 32, "");
_Static_assert(sizeof(struct xenstore_policy) == 80, "");
_Static_assert(offsetof(struct xenstore_policy, compile) == XENSTORE_POLICY_SIZE_1_0, "");
_Static_assert(sizeof(struct xenstore_option_description) == 24, "");
_Static_assert(sizeof(struct xenstore_plugin) == 80, "");
_Static_assert(offsetof(struct xenstore_plugin, backend) == 56, "");
