package quarantine

// MaxReason is maxReason for the tests of package quarantine_test.
const MaxReason = maxReason
