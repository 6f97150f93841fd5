/* An access policy: guests write below their own /local/domain/N, and nowhere else. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <xenstore_plugin.h>

static char instance;

static void *policy_open(const struct xenstore_plugin *plugin, const struct xenstore_host *host,
			 const struct xenstore_option *options, size_t count,
			 struct xenstore_failure *failure)
{
	(void)plugin, (void)host, (void)options, (void)count, (void)failure;
	return &instance; /* it has no state */
}

static void policy_interest(void *self, struct xenstore_interest *interest)
{
	(void)self;
	interest->decides = (uint64_t)1 << XENSTORE_OP_WRITE | (uint64_t)1 << XENSTORE_OP_MKDIR;
}

static int policy_decide(void *self, const struct xenstore_question *question,
			 struct xenstore_answer *answer)
{
	char home[32];
	size_t count;

	(void)self;
	if (question->subject.flags & XENSTORE_SUBJECT_PRIVILEGED)
		return XENSTORE_ABSTAIN;
	count = (size_t)snprintf(home, sizeof(home), "/local/domain/%u/", question->subject.domain);
	if (question->path.count > count && memcmp(question->path.start, home, count) == 0)
		return XENSTORE_ABSTAIN;
	if (answer->reason != NULL)
		snprintf(answer->reason, answer->room, "guests write below %s only", home);
	answer->error = EACCES;
	return XENSTORE_DENY;
}

static void policy_close(void *self)
{
	(void)self;
}

static const struct xenstore_policy policy = {
	.size = sizeof(policy),
	.open = policy_open,
	.interest = policy_interest,
	.decide = policy_decide,
	.close = policy_close,
};

static const struct xenstore_plugin plugin = {
	XENSTORE_PLUGIN_HEAD,
	.kind = XENSTORE_KIND_POLICY,
	.name = "smallest-policy-c",
	.version = "1.0",
	.summary = "Guests write below their own home only.",
	.policy = &policy,
};

XENSTORE_PLUGIN_EXPORT(plugin)
