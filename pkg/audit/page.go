package audit

import "time"

// Order is the direction of a list by timestamp. The store chooses a stable order
// among entries with equal timestamps.
type Order uint8

// The orders.
const (
	NewestFirst Order = iota
	OldestFirst
)

// Limits of a page.
const (
	DefaultPageLimit = 50
	MaxPageLimit     = 1000
	// MaxPageBytes is the size at which a page ends early. A Lambda's response has at
	// most 6 MB.
	MaxPageBytes = 4 << 20
	// MaxItemsBytes is what the items of a page take of it. The rest is for its cursors.
	MaxItemsBytes = MaxPageBytes - 16<<10
)

// Position is the place of one entry in a tenant's list. Tie distinguishes entries of
// the same millisecond. Only the store that created it can read it.
type Position struct {
	Time time.Time
	Tie  string
}

// PageRequest asks for one page of a list.
type PageRequest struct {
	Order Order
	Limit int // entries, from 1 to MaxPageLimit
	// MaxBytes is the largest stored size of the page's entries; zero: no limit. The
	// first entry is returned even if it is larger.
	MaxBytes int
	// From is the entry next to the page and not part of it; nil: the list's beginning.
	From *Position
	// Backwards requests the entries before From instead of those after it. The
	// entries of the page are in Order in both cases.
	Backwards bool
}

// Page is one page of a list.
type Page struct {
	Entries []Entry
	// First and Last are the positions of the first and last entry; nil if the page is empty.
	First, Last *Position
	// More reports whether more entries follow in the requested direction.
	More bool
}
