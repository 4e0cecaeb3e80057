package tenants

// MaxCached is maxCached for the tests of package tenants_test.
const MaxCached = maxCached
