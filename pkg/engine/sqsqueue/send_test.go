package sqsqueue_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqsqueue"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
)

func noBackoff(int) time.Duration { return 0 }

func bodies(sizes ...int) []string {
	var all []string
	for i, size := range sizes {
		all = append(all, strings.Repeat(string(rune('a'+i%26)), size))
	}
	return all
}

func TestSendGroupsUpToTheLimits(t *testing.T) {
	const limit = sqsqueue.MaxBytes
	tenth := slices.Repeat([]int{limit / 10}, 10)
	for name, test := range map[string]struct {
		sizes   []int
		batches []int // sorted
		old     bool  // a service that holds to 256 KiB
	}{
		"none":                      {nil, nil, false},
		"one":                       {[]int{1}, []int{1}, false},
		"ten":                       {slices.Repeat([]int{1}, 10), []int{10}, false},
		"eleven":                    {slices.Repeat([]int{1}, 11), []int{1, 10}, false},
		"thousand":                  {slices.Repeat([]int{10}, 1000), slices.Repeat([]int{10}, 100), false},
		"one at the limit":          {[]int{limit}, []int{1}, false},
		"two at the limit":          {[]int{limit, limit}, []int{1, 1}, false},
		"a byte under together":     {[]int{limit - 2, 1}, []int{2}, false},
		"at the limit together":     {[]int{limit - 1, 1}, []int{2}, false},
		"a byte over together":      {[]int{limit - 1, 2}, []int{1, 1}, false},
		"ten just under together":   {tenth, []int{10}, false},
		"ten a byte over together":  {append(tenth[:9:9], limit-9*(limit/10)+1), []int{1, 9}, false},
		"old: at the limit":         {[]int{256<<10 - 1, 1}, []int{2}, true},
		"old: a byte over together": {[]int{256 << 10, 1}, []int{1, 1}, true},
	} {
		t.Run(name, func(t *testing.T) {
			service, options := &strict{}, sqsqueue.Options{}
			if test.old {
				service.maxBytes, options.MaxBytes = 256<<10, 256<<10
			}
			q := newStrict(t, service, options)
			sent := bodies(test.sizes...)
			if err := q.Send(t.Context(), "acme", sent); err != nil {
				t.Fatal(err)
			}
			slices.Sort(service.batches)
			if !slices.Equal(service.batches, test.batches) {
				t.Errorf("batches of %v, want %v", service.batches, test.batches)
			}
			slices.Sort(sent)
			slices.Sort(service.bodies)
			if !slices.Equal(service.bodies, sent) {
				t.Errorf("%d bodies came, want the %d sent: first %.50q, want %.50q", len(service.bodies), len(sent), service.bodies, sent)
			}
		})
	}
}

func TestSendRefusesWhatSQSWouldBeforeAnythingIsSent(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		want error
	}{
		"a byte over":         {strings.Repeat("x", sqsqueue.MaxBytes+1), audit.ErrTooLarge},
		"a byte over, 2 each": {strings.Repeat("é", sqsqueue.MaxBytes/2) + "x", audit.ErrTooLarge},
		"empty":               {"", sqsqueue.ErrBody},
		"NUL":                 {"a\x00", sqsqueue.ErrBody},
		"control":             {"a\x1f", sqsqueue.ErrBody},
		"U+FFFE":              {"a\uFFFE", sqsqueue.ErrBody},
		"U+FFFF":              {"a\uFFFF", sqsqueue.ErrBody},
		"no UTF-8":            {"a\xff", sqsqueue.ErrBody},
		"surrogate":           {"a\xed\xa0\x80", sqsqueue.ErrBody},
		"all that is allowed": {"\t\n\r ~\u007f\u0080\uD7FF\uE000\uFFFD\U00010000\U0010FFFF", nil},
		"at the limit":        {strings.Repeat("x", sqsqueue.MaxBytes), nil},
	} {
		t.Run(name, func(t *testing.T) {
			service := &strict{}
			err := newStrict(t, service, sqsqueue.Options{}).Send(t.Context(), "acme", []string{"good", test.body})
			if !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if want := map[bool]int{true: 2, false: 0}[test.want == nil]; len(service.bodies) != want {
				t.Errorf("%d messages came, want %d", len(service.bodies), want)
			}
			if err != nil && test.body != "" && strings.Contains(err.Error(), test.body) {
				t.Errorf("got error %v, want it without the body", err)
			}
		})
	}
}

func TestSendRepeatsOnlyWhatFailed(t *testing.T) {
	service := &strict{fail: func(body string, try int) (string, bool) {
		if body >= "3" && try < 4 {
			return "InternalError", false
		}
		return "", false
	}}
	q := newStrict(t, service, sqsqueue.Options{Backoff: noBackoff})
	if err := q.Send(t.Context(), "acme", []string{"0", "1", "2", "3", "4"}); err != nil {
		t.Fatal(err)
	}
	if want := []int{5, 2, 2, 2}; !slices.Equal(service.batches, want) {
		t.Errorf("batches of %v, want %v", service.batches, want)
	}
	slices.Sort(service.bodies)
	if want := []string{"0", "1", "2", "3", "4"}; !slices.Equal(service.bodies, want) {
		t.Errorf("the queue has %v, want %v", service.bodies, want)
	}
}

func TestSendAfterCountsInSecondsAndNeverTooFew(t *testing.T) {
	for _, test := range []struct {
		delay time.Duration
		want  []int // seconds; none: refused
	}{
		{-time.Hour, []int{0}},
		{0, []int{0}},
		{1, []int{1}},
		{time.Second, []int{1}},
		{time.Second + 1, []int{2}},
		{15*time.Minute - 1, []int{900}},
		{15 * time.Minute, []int{900}},
		{15*time.Minute + 1, nil},
		{math.MaxInt64, nil},
	} {
		service := &strict{fail: func(_ string, try int) (string, bool) {
			return map[bool]string{true: "InternalError"}[try == 1], false // a repeated message has the delay again
		}}
		err := newStrict(t, service, sqsqueue.Options{Backoff: noBackoff}).SendAfter(t.Context(), "acme", test.delay, "x")
		if (err == nil) != (test.want != nil) {
			t.Errorf("%v: got error %v, want sent %v", test.delay, err, test.want != nil)
		}
		if !slices.Equal(service.delays, test.want) {
			t.Errorf("%v: got delays %v, want %v", test.delay, service.delays, test.want)
		}
	}
}

func TestSendAfterRefusesTheBodiesThatSendDoes(t *testing.T) {
	service := &strict{}
	q := newStrict(t, service, sqsqueue.Options{})
	for body, want := range map[string]error{"": sqsqueue.ErrBody, "\x00": sqsqueue.ErrBody, strings.Repeat("x", sqsqueue.MaxBytes+1): audit.ErrTooLarge} {
		if err := q.SendAfter(t.Context(), "acme", time.Second, body); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	if len(service.bodies) > 0 {
		t.Errorf("%d messages came, want 0", len(service.bodies))
	}
}

func TestSendTellsWhatIsNotInTheQueue(t *testing.T) {
	for name, test := range map[string]struct {
		code   string
		sender bool
		tries  int
	}{
		"failing for good": {"InternalError", false, 6},
		"refused":          {"InvalidMessageContents", true, 1},
		"not mentioned":    {unmentioned, false, 6},
	} {
		t.Run(name, func(t *testing.T) {
			service := &strict{fail: func(body string, _ int) (string, bool) {
				if body == "poison" {
					return test.code, test.sender
				}
				return "", false
			}}
			sent := bodies(slices.Repeat([]int{1}, 25)...)
			sent[12] = "poison"
			err := newStrict(t, service, sqsqueue.Options{Backoff: noBackoff}).Send(t.Context(), "acme", sent)
			var failure *sqsqueue.SendError
			if !errors.As(err, &failure) {
				t.Fatalf("got error %v, want a %T", err, failure)
			}
			switch {
			case len(failure.Failed) != 1:
				t.Errorf("got %d failed messages, want 1", len(failure.Failed))
			case failure.Failed[0].Index != 12:
				t.Errorf("got index %d, want 12", failure.Failed[0].Index)
			case failure.Failed[0].Refused != test.sender:
				t.Errorf("refused is %v, want %v", failure.Failed[0].Refused, test.sender)
			}
			if service.tries["poison"] != test.tries {
				t.Errorf("sent %d times, want %d", service.tries["poison"], test.tries)
			}
		})
	}
}

func TestSendEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	service := &strict{fail: func(string, int) (string, bool) { return "InternalError", false }}
	q := newStrict(t, service, sqsqueue.Options{Backoff: func(int) time.Duration { cancel(); return time.Hour }})
	if err := q.Send(ctx, "acme", []string{"x"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
}

func TestTheURLIsAskedForOnce(t *testing.T) {
	service := &strict{}
	q := newStrict(t, service, sqsqueue.Options{})
	for range 3 {
		if err := q.Send(t.Context(), "acme", []string{"x"}); err != nil {
			t.Fatal(err)
		}
	}
	if service.lookups != 1 {
		t.Errorf("asked for the queue's URL %d times, want 1", service.lookups)
	}
}

// TestPackedMessagesHaveOnlyCharactersThatSQSTakes holds for whatever an entry
// or an unreadable line has: the data is base64, the tenant a slug, and the
// reason a line is dead-lettered with has nothing of the line.
func TestPackedMessagesHaveOnlyCharactersThatSQSTakes(t *testing.T) {
	q := newStrict(t, &strict{}, sqsqueue.Options{})
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.StringOf(rapid.RuneFrom([]rune{0, 1, 0x1f, '"', '\\', '{', '}', ':', 0x7f, 0x2028, 0xFFFD, 0xFFFE, 0xFFFF, 0x10FFFF})),
			rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		at := time.UnixMilli(1_700_000_000_000).UTC()
		messages, err := envelope.Pack("acme", []audit.Entry{{
			ID: audit.DeriveEntryID("acme", at, "k"), Tenant: "acme", Timestamp: at,
			UserID: text.Draw(t, "user"), Action: "A", ResourceType: "r", Message: text.Draw(t, "message"),
		}})
		if err != nil {
			t.Fatal(err)
		}
		member := text.Draw(t, "member")
		for _, line := range []string{member, `{"` + member + `":1}`, `{"action":"` + member + `"}`, `{"timestamp":"` + member + `"}`} {
			messages = append(messages, deadLetterOf(t, line))
		}
		if err := q.Send(context.Background(), "acme", messages); err != nil {
			t.Fatal(err)
		}
	})
}

// deadLetterOf returns what goes to the dead letters for the line.
func deadLetterOf(t *rapid.T, line string) string {
	t.Helper()
	message, err := envelope.PackPoison("acme", envelope.Poison{Line: []byte(line)})
	if err != nil {
		t.Fatal(err)
	}
	contents, err := envelope.Unpack(message)
	if err != nil {
		t.Fatal(err)
	}
	if len(contents.Poison) == 0 {
		return message // the line was empty, or the end of one
	}
	if message, err = envelope.PackPoison("acme", contents.Poison[0]); err != nil {
		t.Fatal(err)
	}
	return message
}

func TestSendCostsAtMostOneTwentiethOfARequestPerEntry(t *testing.T) {
	const bulks, each = 20, 100
	random := rand.New(rand.NewPCG(1, 2))
	service := &strict{}
	q := newStrict(t, service, sqsqueue.Options{})
	for bulk := range bulks {
		var entries []audit.Entry
		for i := range each {
			entries = append(entries, oneKB(random, bulk*each+i))
		}
		messages, err := envelope.Pack("acme", entries)
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Send(t.Context(), "acme", messages); err != nil {
			t.Fatal(err)
		}
	}
	perEntry := float64(service.billed) / (bulks * each)
	t.Logf("%.4f billed requests of 64 KB per entry", perEntry)
	if perEntry > 0.05 {
		t.Errorf("got %.4f billed requests per entry, want at most 0.05", perEntry)
	}
}

// oneKB returns an entry of about 1 KB, a third of which does not compress.
func oneKB(random *rand.Rand, i int) audit.Entry {
	noise := make([]byte, 250)
	for j := range noise {
		noise[j] = byte(random.Uint32())
	}
	at := time.UnixMilli(1_700_000_000_000 + int64(i)).UTC()
	return audit.Entry{
		ID: audit.DeriveEntryID("acme", at, fmt.Sprint(i)), Tenant: "acme", Timestamp: at, UserID: fmt.Sprintf("user-%d", i%50),
		Action: "UPDATE", ResourceType: "order", ResourceID: fmt.Sprint(i),
		Message: strings.Repeat("the order was changed by its owner ", 13) + base64.StdEncoding.EncodeToString(noise),
	}
}
