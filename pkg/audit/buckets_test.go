package audit_test

import (
	"slices"
	"testing"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

func zoneOf(t testing.TB, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func parse(t testing.TB, text string) int64 {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at.UnixMilli()
}

// TestBucketsFollowTheClock lists the starts of buckets around changes of clocks.
func TestBucketsFollowTheClock(t *testing.T) {
	const hour, day = time.Hour, 24 * time.Hour
	for _, c := range []struct {
		zone     string
		interval time.Duration
		from     string
		want     []string // the starts from the bucket of from on
	}{
		{"UTC", day, "2026-03-29T12:00:00Z", []string{"2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z"}},
		{"Europe/Berlin", day, "2026-03-28T12:00:00Z", []string{
			"2026-03-28T00:00:00+01:00", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00", "2026-03-31T00:00:00+02:00"}},
		{"Europe/Berlin", day, "2026-10-24T12:00:00Z", []string{
			"2026-10-24T00:00:00+02:00", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"}},
		{"Europe/Berlin", hour, "2026-10-25T00:30:00Z", []string{
			"2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"}},
		{"Europe/Berlin", 2 * hour, "2026-03-29T00:30:00Z", []string{
			"2026-03-29T00:00:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"}},
		{"Europe/Berlin", 6 * hour, "2026-10-25T01:30:00Z", []string{"2026-10-25T00:00:00+02:00", "2026-10-25T06:00:00+01:00"}},
		{"America/New_York", day, "2026-11-01T12:00:00Z", []string{"2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00"}},
		{"Asia/Kolkata", day, "2026-03-29T18:29:59Z", []string{"2026-03-29T00:00:00+05:30", "2026-03-30T00:00:00+05:30"}},
		{"Asia/Kolkata", hour, "2026-03-29T18:29:59Z", []string{"2026-03-29T23:00:00+05:30", "2026-03-30T00:00:00+05:30"}},
		// 02:00+11:00 becomes 01:30+10:30: the hour from 01:00 has 90 minutes.
		{"Australia/Lord_Howe", hour, "2026-04-04T14:59:00Z", []string{"2026-04-05T01:00:00+11:00", "2026-04-05T02:00:00+10:30"}},
		{"Australia/Lord_Howe", hour / 2, "2026-04-04T14:59:00Z", []string{
			"2026-04-05T01:30:00+11:00", "2026-04-05T01:30:00+10:30", "2026-04-05T02:00:00+10:30"}},
		{"Australia/Lord_Howe", day, "2026-04-04T14:59:00Z", []string{"2026-04-05T00:00:00+11:00", "2026-04-06T00:00:00+10:30"}},
		// There was no 30 December.
		{"Pacific/Apia", day, "2011-12-29T12:00:00Z", []string{
			"2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00", "2012-01-01T00:00:00+14:00"}},
		// Midnight is skipped, or comes twice.
		{"America/Sao_Paulo", day, "2018-11-03T12:00:00Z", []string{"2018-11-03T00:00:00-03:00", "2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"}},
		{"America/Sao_Paulo", day, "2018-02-17T12:00:00Z", []string{"2018-02-17T00:00:00-02:00", "2018-02-18T00:00:00-03:00"}},
		// The clock went back at 00:01. The day that had begun goes on.
		{"America/St_Johns", day, "2010-11-06T12:00:00Z", []string{"2010-11-06T00:00:00-02:30", "2010-11-07T00:00:00-02:30", "2010-11-08T00:00:00-03:30"}},
		{"America/New_York", day, "1970-01-01T00:00:00Z", []string{"1969-12-31T00:00:00-05:00", "1970-01-01T00:00:00-05:00"}},
		// Weeks begin on Mondays. One has 167 hours and one 169.
		{"UTC", 7 * day, "1970-01-01T00:00:00Z", []string{"1969-12-29T00:00:00Z", "1970-01-05T00:00:00Z"}},
		{"UTC", 7 * day, "2026-03-29T23:59:59Z", []string{"2026-03-23T00:00:00Z", "2026-03-30T00:00:00Z", "2026-04-06T00:00:00Z"}},
		{"Europe/Berlin", 7 * day, "2026-03-25T12:00:00Z", []string{"2026-03-23T00:00:00+01:00", "2026-03-30T00:00:00+02:00", "2026-04-06T00:00:00+02:00"}},
		{"Europe/Berlin", 7 * day, "2026-10-25T01:30:00Z", []string{"2026-10-19T00:00:00+02:00", "2026-10-26T00:00:00+01:00"}},
		{"America/New_York", 7 * day, "2026-11-01T12:00:00Z", []string{"2026-10-26T00:00:00-04:00", "2026-11-02T00:00:00-05:00"}},
		{"Pacific/Apia", 7 * day, "2011-12-29T12:00:00Z", []string{"2011-12-26T00:00:00-10:00", "2012-01-02T00:00:00+14:00"}},
		{"Europe/Berlin", 14 * day, "2026-03-29T12:00:00Z", []string{"2026-03-23T00:00:00+01:00", "2026-04-06T00:00:00+02:00"}},
		{"Europe/Berlin", 366 * day, "2026-03-29T12:00:00Z", []string{"2026-02-12T00:00:00+01:00", "2027-02-13T00:00:00+01:00"}},
	} {
		zone := zoneOf(t, c.zone)
		buckets := audit.NewBuckets(c.interval, zone)
		var got []string
		for at := parse(t, c.from); len(got) < len(c.want); {
			start, end := buckets.Of(at)
			got = append(got, time.UnixMilli(start).In(zone).Format(time.RFC3339))
			at = end
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s by %v from %s:\n got %v\nwant %v", c.zone, c.interval, c.from, got, c.want)
		}
	}
}

func TestBucketsHaveNoGap(t *testing.T) {
	zones := []string{"UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "Africa/Monrovia"}
	rapid.Check(t, func(r *rapid.T) {
		zone := zoneOf(t, rapid.SampledFrom(zones).Draw(r, "zone"))
		interval := time.Duration(rapid.SampledFrom([]int{1, 60, 900, 1800, 3600, 7200, 25_000, 86_400, 7 * 86_400, 366 * 86_400}).Draw(r, "seconds")) * time.Second
		buckets, fresh := audit.NewBuckets(interval, zone), audit.NewBuckets(interval, zone)
		at := rapid.Int64Range(0, 2e12).Draw(r, "time")
		start, end := buckets.Of(at)
		if at < start || end <= at {
			r.Fatalf("bucket of %d: got %d to %d, want the time in it", at, start, end)
		}
		inside := rapid.Int64Range(start, end-1).Draw(r, "time in the bucket")
		if s, e := fresh.Of(inside); s != start || e != end {
			r.Fatalf("bucket of %d: got %d to %d, want %d to %d, those of %d", inside, s, e, start, end, at)
		}
		if s, _ := buckets.Of(end); s != end {
			r.Fatalf("bucket of %d: got the start %d, want the end of the one before", end, s)
		}
		if _, e := buckets.Of(start - 1); e != start {
			r.Fatalf("bucket of %d: got the end %d, want the start of the next one", start-1, e)
		}
	})
}

func TestPeriodsHaveOneOffsetEach(t *testing.T) {
	buckets := audit.NewBuckets(time.Hour, zoneOf(t, "Europe/Berlin"))
	got := buckets.Periods(parse(t, "2026-01-01T00:00:00Z"), parse(t, "2026-12-31T00:00:00Z"))
	if len(got) != 3 {
		t.Fatalf("got %d periods of a year, want 3", len(got))
	}
	for i, want := range []int64{3_600_000, 7_200_000, 3_600_000} {
		if got[i].Offset != want {
			t.Errorf("period %d: got the offset %d, want %d", i, got[i].Offset, want)
		}
	}
	if got, want := got[1].Start, parse(t, "2026-03-29T01:00:00Z"); got != want {
		t.Errorf("got the start %d of summer time, want %d", got, want)
	}
}

func TestHistogramsAreBounded(t *testing.T) {
	buckets := audit.NewBuckets(time.Hour, zoneOf(t, "Europe/Berlin"))
	first, _ := buckets.Of(parse(t, "2026-10-01T00:00:00Z"))
	last := first + (audit.MaxBuckets-1)*time.Hour.Milliseconds()
	histogram, err := buckets.Fill(map[int64]int64{first: 1, last: 2})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(histogram), audit.MaxBuckets; got != want {
		t.Errorf("got %d buckets, want %d", got, want)
	}
	if got := histogram[len(histogram)-1].Count; got != 2 {
		t.Errorf("got the count %d in the last bucket, want 2", got)
	}
	if _, err := buckets.Fill(map[int64]int64{first: 1, last + time.Hour.Milliseconds(): 2}); err == nil {
		t.Errorf("got no error for %d buckets, want one", audit.MaxBuckets+1)
	}
}
