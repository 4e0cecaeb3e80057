package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
)

func isUnavailable(err error) bool {
	var unavailable *audit.UnavailableError
	return errors.As(err, &unavailable)
}

func TestFailuresAreSortedByWhetherRepeatingHelps(t *testing.T) {
	for name, test := range map[string]struct {
		err   error
		later bool
	}{
		"network":              {mongo.CommandError{Labels: []string{"NetworkError"}, Wrapped: io.EOF}, true},
		"pool cleared":         {mongo.CommandError{Labels: []string{"TransientTransactionError"}, Wrapped: io.EOF}, true},
		"no server":            {errors.New("server selection error"), true},
		"stepped down":         {mongo.CommandError{Code: 189, Message: "secret"}, true},
		"retryable":            {mongo.CommandError{Code: 1, Message: "secret", Labels: []string{"RetryableWriteError"}}, true},
		"password is another":  {mongo.CommandError{Code: 18, Message: "secret"}, true},
		"too slow":             {mongo.CommandError{Code: 50, Message: "secret"}, true},
		"not confirmed":        {mongo.WriteException{WriteConcernError: &mongo.WriteConcernError{Code: 1, Message: "secret"}}, true},
		"shutdown for one":     {mongo.BulkWriteException{WriteErrors: []mongo.BulkWriteError{{WriteError: mongo.WriteError{Code: 11600, Message: "secret"}}}}, true},
		"answer without code":  {mongo.CommandError{Message: "secret", Raw: bson.Raw{5, 0, 0, 0, 0}}, false},
		"not authorised":       {mongo.CommandError{Code: 13, Message: "secret"}, false},
		"unknown to everybody": {mongo.CommandError{Code: 424242, Message: "secret"}, false},
		"refused":              {mongo.WriteException{WriteErrors: mongo.WriteErrors{{Code: 121, Message: "secret"}}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := mongostore.Failure(t.Context(), test.err)
			switch {
			case got == nil:
				t.Error("got no error, want one")
			case isUnavailable(got) != test.later:
				t.Errorf("got error %v, want unavailable %v", got, test.later)
			case strings.Contains(got.Error(), "secret"):
				t.Errorf("got %q, want it without %q", got.Error(), "secret")
			}
		})
	}
	if err := mongostore.Failure(t.Context(), nil); err != nil {
		t.Errorf("no failure is %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := mongostore.Failure(ended, io.EOF); !errors.Is(err, context.Canceled) {
		t.Errorf("after the context ended: got error %v, want %v", err, context.Canceled)
	} else if isUnavailable(err) {
		t.Errorf("after the context ended: got error %v, want one that is not unavailable", err)
	}
}

func TestItemsFailAlone(t *testing.T) {
	bulk := func(concern *mongo.WriteConcernError, codes ...int) error {
		failed := mongo.BulkWriteException{WriteConcernError: concern}
		for i, code := range codes {
			failed.WriteErrors = append(failed.WriteErrors, mongo.BulkWriteError{WriteError: mongo.WriteError{Index: 10 * i, Code: code, Message: "secret"}})
		}
		return fmt.Errorf("insert: %w", failed)
	}
	faults, err := mongostore.ItemFaults(t.Context(), bulk(nil, 11000, 121, 10334))
	if err != nil {
		t.Error(err)
	} else if len(faults) != 3 {
		t.Errorf("got %d faults, want 3", len(faults))
	} else if !mongo.IsDuplicateKeyError(faults[0]) {
		t.Errorf("got fault %v, want a duplicate key", faults[0])
	} else if faults[10].Code != 121 {
		t.Errorf("item 10: got code %d, want 121", faults[10].Code)
	} else if faults[20].Code != 10334 {
		t.Errorf("item 20: got code %d, want 10334", faults[20].Code)
	}
	if faults, err := mongostore.ItemFaults(t.Context(), nil); err != nil {
		t.Error(err)
	} else if len(faults) > 0 {
		t.Errorf("without an error: got faults %v, want none", faults)
	}
	// Where the call as a whole is in doubt, no item is decided on.
	for name, test := range map[string]struct {
		err   error
		later bool
	}{
		"not confirmed":  {bulk(&mongo.WriteConcernError{Code: 64}, 11000), true},
		"election":       {bulk(nil, 11000, 11602), true},
		"disk full":      {bulk(nil, 14031, 11000), false},
		"connection cut": {mongo.CommandError{Labels: []string{"NetworkError"}}, true},
	} {
		switch faults, err := mongostore.ItemFaults(t.Context(), test.err); {
		case err == nil:
			t.Errorf("%s: got no error, want one", name)
		case len(faults) > 0:
			t.Errorf("%s: got faults %v, want none", name, faults)
		case isUnavailable(err) != test.later:
			t.Errorf("%s: got error %v, want unavailable %v", name, err, test.later)
		}
	}
}
