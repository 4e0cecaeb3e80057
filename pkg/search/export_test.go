package search

// The limits of statistics, for the tests of package search_test.
const (
	StatsWait = statsWait
	QuickTime = quickTime
)
