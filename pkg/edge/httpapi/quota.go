package httpapi

import (
	"strconv"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/quota"
)

// The fields that tell a client its quotas: draft-ietf-httpapi-ratelimit-headers-11. The unit is
// not one of the draft, which knows requests and bytes only.
const (
	RateLimitHeader       = "RateLimit"
	RateLimitPolicyHeader = "RateLimit-Policy"

	quotaUnit = "entries"
)

// takeQuota takes n entries from the quotas of the caller. The response gets the state of the
// quotas, whatever it is.
func (req *request) takeQuota(limiter *quota.Limiter, n int) (err error) {
	req.quotas, err = limiter.Take(req.Context(), &req.tenant, req.principal.SubmittedBy(), n)
	return err
}

// setQuotas adds the fields about the quotas, if there are any.
func (r *response) setQuotas(states []quota.State) {
	if len(states) == 0 {
		return
	}
	policies, limits := make([]string, len(states)), make([]string, len(states))
	for i, s := range states {
		policies[i] = strconv.Quote(s.Policy) + ";q=" + strconv.FormatInt(s.Limit.Burst, 10) +
			";qu=" + strconv.Quote(quotaUnit) + ";w=" + retrySeconds(s.Limit.Window())
		limits[i] = strconv.Quote(s.Policy) + ";r=" + strconv.FormatInt(s.Left, 10) + ";t=" + retrySeconds(s.Reset)
	}
	r.set(RateLimitPolicyHeader, strings.Join(policies, ", "))
	r.set(RateLimitHeader, strings.Join(limits, ", "))
}

// quotaExceeded is the 429 of a request that was refused because of a quota.
func quotaExceeded(err *quota.ExceededError) *problem {
	whose := "this tenant"
	if err.Policy == quota.CredentialPolicy {
		whose = "this credential"
	}
	return ProblemQuota.problem("The quota of entries of "+whose+" is used up. No entry of this request was accepted. Send it again later.").
		with("Retry-After", retrySeconds(err.RetryAfter))
}
