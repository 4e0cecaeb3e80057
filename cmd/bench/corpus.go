package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"time"
)

// corpus makes entries as an order service sends them, each about one KB of
// JSON. Ids, hashes, traces and amounts are random, so that compression gains no
// more than it does on real entries.
type corpus struct {
	random *rand.Rand
	next   time.Time // of the next entry; one second apart
	made   int
}

// corpusAge is how far back the first entry lies: enough for a million.
const corpusAge = 14 * 24 * time.Hour

func newCorpus(seed uint64) *corpus {
	return &corpus{random: rand.New(rand.NewPCG(seed, seed)), next: time.Now().Add(-corpusAge).UTC().Truncate(time.Millisecond)}
}

var (
	corpusAgents = []string{
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Firefox/128.0",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X)", "order-service/4.18.2 (linux; amd64)",
	}
	corpusActions = []string{"CREATE", "UPDATE", "UPDATE", "VIEW", "VIEW", "VIEW", "DELETE", "order.ship"}
	corpusEvents  = []string{
		"was paid by card and confirmed to the customer by e-mail", "was handed to the carrier and will arrive in two days",
		"was opened by a member of the support team", "was changed after a call of the customer",
	}
	corpusSeverities = []string{"INFO", "INFO", "INFO", "INFO", "INFO", "INFO", "WARNING", "ERROR"}
)

// rareEvent is the text of one entry in fifty; rareWord finds it.
const (
	rareEvent = "was refunded in full because the parcel never arrived there"
	rareWord  = "refunded"
)

func (c *corpus) pick(from []string) string { return from[c.random.IntN(len(from))] }

// hex returns n random hexadecimal digits.
func (c *corpus) hex(n int) string {
	digits := make([]byte, n)
	for i := range digits {
		digits[i] = "0123456789abcdef"[c.random.IntN(16)]
	}
	return string(digits)
}

// entry returns the JSON text of the next entry.
func (c *corpus) entry() []byte { return c.entryOf("req-" + c.hex(16)) }

// entryOf is entry with the request id.
func (c *corpus) entryOf(request string) []byte {
	event := c.pick(corpusEvents)
	if c.made%50 == 0 {
		event = rareEvent
	}
	order, total := c.random.IntN(90_000)+10_000, c.random.IntN(90_000)
	state := func(status string) string {
		return fmt.Sprintf(`{"status":%q,"total":%d.%02d,"items":[{"sku":"A-%d","qty":2},{"sku":"B-%d","qty":1}],"customer":{"id":"c-%d","tier":"gold"}}`,
			status, total/100, total%100, order%700, order%90, order%5000)
	}
	text := fmt.Appendf(nil, `{"user_id":"user-%d","session_id":"s-%s","request_id":%q,"action":%q,"resource_type":"order","resource_id":"order-%d",`+
		`"timestamp":%q,"ip_address":"203.0.%d.%d","user_agent":%q,"before_state":%s,"after_state":%s,`+
		`"metadata":{"region":"eu-central-%d","service":"checkout","version":"4.18.%d","trace":%q,"span":%q,"flags":{"beta":true,"retry":false},"latency_ms":%d},`+
		`"severity":%q,"message":"Order %d %s","idempotency_key":%q}`,
		c.random.IntN(1000), c.hex(16), request, c.pick(corpusActions), order,
		c.next.Format(time.RFC3339Nano), c.random.IntN(256), c.random.IntN(256), c.pick(corpusAgents), state("pending"), state("paid"),
		1+c.random.IntN(3), c.random.IntN(20), c.hex(32), c.hex(16), c.random.IntN(500),
		c.pick(corpusSeverities), order, event, c.hex(32))
	c.made++
	c.next = c.next.Add(time.Second)
	return text
}

// entries returns the texts of the next n entries.
func (c *corpus) entries(n int) [][]byte {
	texts := make([][]byte, n)
	for i := range texts {
		texts[i] = c.entry()
	}
	return texts
}

// bulkSize is how many entries a bulk has.
const bulkSize = 100

// bulk returns the next bulkSize entries as a JSON array.
func (c *corpus) bulk() []byte { return c.bulkOf(bulkSize) }

// bulkOf returns the next n entries as a JSON array.
func (c *corpus) bulkOf(n int) []byte {
	return append(append([]byte{'['}, bytes.Join(c.entries(n), []byte{','})...), ']')
}
