package access

// MaxCachedKeys is maxCachedKeys for the tests of package access_test.
const MaxCachedKeys = maxCachedKeys
