package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cost"
)

// costCmd prices a workload.
type costCmd struct {
	Entries    rateFlag  `required:"" placeholder:"RATE" help:"How many entries arrive: a number and a period, such as 500/s, 30k/day or 90M/month."`
	Bytes      int       `default:"1000" help:"Size of an entry as JSON."`
	Batch      int       `default:"100" help:"Entries that a client sends in one request."`
	Tenants    int       `default:"10" help:"Number of tenants. Of more than 20, the ten largest send half of the entries."`
	Retention  daysFlag  `default:"400d" placeholder:"DURATION" help:"How long an entry is kept, such as 90d or 7y; by default 400d."`
	Searchable *daysFlag `placeholder:"DURATION" help:"How long lists and searches have an entry; by default as long as it is kept."`
	Archive    bool      `help:"Entries leave the stores for the archive when they are not searchable any more."`
	Searches   rateFlag  `default:"0/day" placeholder:"RATE" help:"How many lists and counts are requested."`
	Peak       *rateFlag `placeholder:"RATE" help:"The rate that the stores must bear for an hour; by default the average."`
	Engine     string    `enum:"documentdb,atlas" default:"documentdb" help:"What runs the system of record: documentdb (Amazon DocumentDB) or atlas (MongoDB Atlas)."`
	Output     string    `short:"o" enum:"table,json" default:"table" help:"table or json."`
}

// Help is what --help adds.
func (*costCmd) Help() string {
	return `The estimate is the bill of a month in the steady state, when entries have arrived for as long as they are kept. It asks no service. Prices are list prices with a date. The documentation has what the model assumes and leaves out (docs/cost.md).`
}

// maxTenants is far more than a deployment is made for. With more, the estimate would take minutes.
const maxTenants = 100_000

// largestTenants of many send half of the entries.
const largestTenants = 10

// Validate checks the numbers.
func (c *costCmd) Validate() error {
	for _, number := range []struct {
		flag       string
		value, max int
	}{{"bytes", c.Bytes, audit.MaxEntryBytes}, {"batch", c.Batch, audit.MaxBulkEntries}, {"tenants", c.Tenants, maxTenants}} {
		if number.value < 1 || number.value > number.max {
			return fmt.Errorf("--%s %d: must be from 1 to %d", number.flag, number.value, number.max)
		}
	}
	if c.Searchable != nil && *c.Searchable > c.Retention {
		return fmt.Errorf("--searchable %dd: must be at most --retention, %dd", *c.Searchable, c.Retention)
	}
	return nil
}

// Run prints the estimate.
func (c *costCmd) Run(con *console) error {
	workload, prices := c.workload(), cost.USEast1()
	estimate, err := cost.Of(workload, prices)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(con.out)
	if c.Output == "json" {
		err = c.json(out, &workload, &prices, estimate)
	} else {
		err = costTable(out, &prices, estimate)
	}
	return errors.Join(err, out.Flush())
}

func (c *costCmd) workload() cost.Workload {
	w := cost.Workload{
		EntriesPerMonth: float64(c.Entries), EntryBytes: c.Bytes, EntriesPerRequest: c.Batch,
		Shares:        cost.PowerLaw(c.Tenants, largestTenants, 0.5),
		RetentionDays: int(c.Retention), SearchableDays: int(c.Retention),
		Archived: c.Archive, SearchesPerMonth: float64(c.Searches), Database: cost.Database(c.Engine),
	}
	if c.Searchable != nil {
		w.SearchableDays = int(*c.Searchable)
	}
	if c.Peak != nil {
		w.PeakPerSecond = float64(*c.Peak) / secondsPerMonth
	}
	return w
}

// rateFlag is a number a month, written with its period.
type rateFlag float64

const secondsPerMonth = cost.HoursPerMonth * 3600

var (
	rateSyntax = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)([kMG]?)/(s|day|month)$`)
	multiples  = map[string]float64{"": 1, "k": 1e3, "M": 1e6, "G": 1e9}
	// perMonth is how many of a period a month has.
	perMonth = map[string]float64{"s": secondsPerMonth, "day": cost.DaysPerMonth, "month": 1}
)

// maxRate is far more than this service is made for: 380,000 a second.
const maxRate = 1e12

var errRate = fmt.Errorf("must be a number and a period, such as 500/s, 30k/day or 90M/month, with k, M or G, up to %.0fG/month", maxRate/1e9)

// UnmarshalText parses a rate.
func (f *rateFlag) UnmarshalText(text []byte) error {
	parts := rateSyntax.FindStringSubmatch(string(text))
	if parts == nil {
		return fmt.Errorf("%q %w", text, errRate)
	}
	n, err := strconv.ParseFloat(parts[1], 64)
	if n *= multiples[parts[2]] * perMonth[parts[3]]; err != nil || n > maxRate {
		return fmt.Errorf("%q %w", text, errRate)
	}
	*f = rateFlag(n)
	return nil
}

// costTable prints the parts for people.
func costTable(out io.Writer, prices *cost.Prices, e *cost.Estimate) error {
	var b strings.Builder
	line := func(name string, usd, fixed, million string) {
		fmt.Fprintf(&b, "%-18s %12s %16s %14s\n", name, usd, fixed, million)
	}
	line("USD", "a month", "without entries", "for a million")
	fixed := 0.0
	for _, p := range e.Parts {
		fixed += p.Fixed
		if p.USD == 0 {
			continue
		}
		line(p.Name, money(p.USD), money(p.Fixed), fmt.Sprintf("%.3f", e.Million(p)))
	}
	line("Total", money(e.USD()), money(fixed), fmt.Sprintf("%.3f", e.PerMillion()))
	d, s := e.Sizes.Database, e.Sizes.Search
	fmt.Fprintf(&b, "\nDatabase: %.0f GB; shards: %d; memory of a node: %.0f GB\n", d.DataGB, d.Shards, d.NodeScale*cost.NodeGB)
	fmt.Fprintf(&b, "OpenSearch: %.0f GB; data nodes: %d; memory of a node: %.0f GB\n", s.DiskGB, s.Nodes, s.NodeScale*cost.NodeGB)
	fmt.Fprintf(&b, "List prices of %s, %s. Not included: %s.\n", prices.Region, prices.AsOf, cost.NotIncluded)
	_, err := io.WriteString(out, b.String())
	return err
}

// money is an amount as people write it, with thousands apart.
func money(usd float64) string {
	text := strconv.FormatFloat(usd, 'f', 2, 64)
	whole, cents, _ := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	return whole + "." + cents
}

// costPart is a part of the bill as JSON.
type costPart struct {
	Name          string  `json:"name"`
	USD           float64 `json:"usd"`             // a month
	FixedUSD      float64 `json:"fixed_usd"`       // of it, what the deployment costs without any entry
	USDPerMillion float64 `json:"usd_per_million"` // entries
}

func (*costCmd) json(out io.Writer, w *cost.Workload, prices *cost.Prices, e *cost.Estimate) error {
	var parts []costPart
	total := costPart{Name: "Total", USD: e.USD(), USDPerMillion: e.PerMillion()}
	for _, p := range e.Parts {
		parts = append(parts, costPart{p.Name, p.USD, p.Fixed, e.Million(p)})
		total.FixedUSD += p.Fixed
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(map[string]any{
		"region": prices.Region, "as_of": prices.AsOf, "parts": parts, "total": total,
		"workload": map[string]any{
			"entries_per_month": w.EntriesPerMonth, "entry_bytes": w.EntryBytes, "entries_per_request": w.EntriesPerRequest, "tenants": len(w.Shares),
			"retention_days": w.RetentionDays, "searchable_days": w.SearchableDays, "searches_per_month": w.SearchesPerMonth,
			"peak_per_second": w.PeakPerSecond, "engine": w.Database,
		},
		"database":     map[string]any{"gb": e.Sizes.Database.DataGB, "shards": e.Sizes.Database.Shards, "node_gb": e.Sizes.Database.NodeScale * cost.NodeGB},
		"search":       map[string]any{"gb": e.Sizes.Search.DiskGB, "nodes": e.Sizes.Search.Nodes, "node_gb": e.Sizes.Search.NodeScale * cost.NodeGB},
		"not_included": cost.NotIncluded, "assumptions": cost.Assumptions(),
	})
}
