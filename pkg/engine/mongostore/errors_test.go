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
			if got == nil || isUnavailable(got) != test.later || strings.Contains(got.Error(), "secret") {
				t.Errorf("failure is %v, unavailable %v, want %v and no message of the server", got, isUnavailable(got), test.later)
			}
		})
	}
	if err := mongostore.Failure(t.Context(), nil); err != nil {
		t.Errorf("no failure is %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := mongostore.Failure(ended, io.EOF); !errors.Is(err, context.Canceled) || isUnavailable(err) {
		t.Errorf("after the context ended a failure is %v, want the context's error", err)
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
	} else if len(faults) != 3 || !mongo.IsDuplicateKeyError(faults[0]) || faults[10].Code != 121 || faults[20].Code != 10334 {
		t.Errorf("faults are %v", faults)
	}
	if faults, err := mongostore.ItemFaults(t.Context(), nil); err != nil {
		t.Error(err)
	} else if len(faults) > 0 {
		t.Errorf("without an error the faults are %v", faults)
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
		if faults, err := mongostore.ItemFaults(t.Context(), test.err); err == nil || len(faults) > 0 || isUnavailable(err) != test.later {
			t.Errorf("%s: faults %v, %v, want an error, unavailable %v", name, faults, err, test.later)
		}
	}
}
