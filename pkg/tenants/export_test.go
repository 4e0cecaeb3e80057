package tenants

// The limits of the cache, for the tests of package tenants_test.
const (
	MaxCached    = maxCached
	MaxStale     = maxStale
	StaleTimeout = staleTimeout
	RetryPause   = retryPause
)
