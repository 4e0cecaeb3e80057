package decimal

// An index finds the numbers of a range by buckets. A bucket is the keys with a common
// beginning of some length. Every key is in one bucket of each level. A range consists of whole
// buckets, and of parts of the two smallest ones at its ends.

// Levels are the lengths of the beginnings of keys that an index has as buckets, in rising order.
type Levels []int

// Bucket is the keys that begin with Start. It is one bucket of its level. If Start is shorter
// than the level's beginnings, it is all buckets of the level that begin with Start.
type Bucket struct {
	Level int // the index in Levels
	Start string
}

// Buckets returns the buckets of a key.
func (l Levels) Buckets(key string) []Bucket {
	buckets := make([]Bucket, len(l))
	for i, length := range l {
		buckets[i] = Bucket{Level: i, Start: key[:min(len(key), length)]}
	}
	return buckets
}

// alphabet has the characters of keys after the sign.
const alphabet = "0123456789" + endNegative

// signs are the first characters of keys.
var signs = [...]string{signNegative, zeroKey, signPositive}

// Cover divides the range into whole buckets and parts of buckets of the last level. All of them
// are disjoint. A part is a single key, or lies at an end of the range.
func (l Levels) Cover(r Range) (whole []Bucket, parts []Range) {
	c := coverer{Range: r, levels: l}
	for _, sign := range signs {
		c.add(sign)
	}
	return c.whole, c.parts
}

type coverer struct {
	Range
	levels Levels
	whole  []Bucket
	parts  []Range
}

// add adds what the range has of the keys that begin with start.
func (c *coverer) add(start string) {
	switch level := c.level(start); {
	case c.disjoint(start):
	case c.covers(start):
		c.whole = append(c.whole, Bucket{Level: level, Start: start})
	case len(start) == c.levels[len(c.levels)-1]:
		c.parts = append(c.parts, Range{From: max(c.From, start), To: c.minTo(start)})
	default:
		if c.Contains(start) { // a key that ends here
			c.parts = append(c.parts, Range{From: start, To: After(start)})
		}
		for i := range len(alphabet) {
			c.add(start + alphabet[i:i+1])
		}
	}
}

// level returns the first level whose beginnings are not shorter than start.
func (c *coverer) level(start string) int {
	for i, length := range c.levels {
		if len(start) <= length {
			return i
		}
	}
	return len(c.levels) - 1
}

// afterAll sorts after every character of a key.
const afterAll = "~"

func (r Range) disjoint(start string) bool {
	return start+afterAll <= r.From || r.To != "" && r.To <= start
}

func (r Range) covers(start string) bool {
	return r.From <= start && (r.To == "" || start+afterAll <= r.To)
}

func (r Range) minTo(start string) string {
	if r.To == "" {
		return start + afterAll
	}
	return min(r.To, start+afterAll)
}

// Prefix is the keys that begin with Text, or the key Text alone.
type Prefix struct {
	Text  string
	Exact bool
}

// Prefixes divides a range of Cover, for an index that cannot compare keys but finds those with
// a common beginning.
func (r Range) Prefixes() []Prefix {
	start := 0
	for start < len(r.From) && start < len(r.To) && r.From[start] == r.To[start] {
		start++
	}
	return r.prefixes(nil, r.From[:start])
}

func (r Range) prefixes(found []Prefix, start string) []Prefix {
	switch {
	case r.disjoint(start) || len(start) > maxKey:
		return found
	case r.covers(start):
		return append(found, Prefix{Text: start})
	}
	if r.Contains(start) {
		found = append(found, Prefix{Text: start, Exact: true})
	}
	for i := range len(alphabet) {
		found = r.prefixes(found, start+alphabet[i:i+1])
	}
	return found
}

// maxKey is the length of the longest key.
const maxKey = len(signNegative) + 3 + MaxDigits + len(endNegative)
