package mongostore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
)

// Error codes of the server. The driver has types for the errors, but no names
// for their codes, which are those of MongoDB's src/mongo/base/error_codes.yml.
const (
	codeHostUnreachable       = 6
	codeHostNotFound          = 7
	codeAuthenticationFailed  = 18 // also where a rotated password is not known here yet
	codeMaxTimeExpired        = 50
	codeWriteConcernTimeout   = 64
	codeNetworkTimeout        = 89
	codeShutdown              = 91
	codeWriteConflict         = 112
	codeReadConcernNotYet     = 134
	codePrimarySteppedDown    = 189
	codeExceededTime          = 262
	codeIndexBuildAborted     = 276
	codeTooBusy               = 462
	codeSocket                = 9001
	codeNotPrimary            = 10107
	codeInterruptedAtShutdown = 11600
	codeInterruptedByElection = 11602
	codeIndexBuildUnderWay    = 12587
	codeNotPrimaryNoSecondary = 13435
	codeNotPrimaryOrSecondary = 13436
	codeBadValue              = 2
	codeFailedToParse         = 9
	codeOverflow              = 15 // nested too deep
	codeInvalidBSON           = 22
	codeDollarName            = 52
	codeDottedName            = 57
	codeValidation            = 121
	codeTooLarge              = 10334
	codeLanguage              = 17262
	codeKeyTooLong            = 17280
)

// passing are the codes of states that end by themselves.
var passing = []int{
	codeHostUnreachable, codeHostNotFound, codeAuthenticationFailed, codeMaxTimeExpired, codeWriteConcernTimeout, codeNetworkTimeout, codeShutdown,
	codeWriteConflict, codeReadConcernNotYet, codePrimarySteppedDown, codeExceededTime, codeIndexBuildAborted, codeTooBusy, codeSocket,
	codeNotPrimary, codeInterruptedAtShutdown, codeInterruptedByElection, codeIndexBuildUnderWay, codeNotPrimaryNoSecondary, codeNotPrimaryOrSecondary,
}

// ofDocument are the codes of faults that lie in one document and stay there.
var ofDocument = []int{
	codeBadValue, codeFailedToParse, codeOverflow, codeInvalidBSON, codeDollarName, codeDottedName,
	codeValidation, codeTooLarge, codeLanguage, codeKeyTooLong,
}

// serverFailure is an error of the server without its message, which may repeat
// what was written.
type serverFailure struct {
	codes []int
	err   error
}

func (f *serverFailure) Error() string { return fmt.Sprintf("mongodb: server error %v", f.codes) }

func (f *serverFailure) Unwrap() error { return f.err }

// failure turns an error of the driver into one of this package: nil, the
// context's own where that ended, an *audit.UnavailableError where repeating the
// call makes sense. Its text has no content of documents.
func failure(ctx context.Context, err error) error {
	var server mongo.ServerError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err() // whatever the interrupted call said
	case errors.Is(err, mongo.ErrClientDisconnected):
		return errClosed
	case mongo.IsNetworkError(err) || unanswered(err) || !errors.As(err, &server):
		// No server answered. What the driver itself refuses is fixed by the
		// code of this package and does not happen.
		return unavailable(fmt.Errorf("mongodb: %w", err))
	}
	masked := &serverFailure{codes: server.ErrorCodes(), err: err}
	if server.HasErrorLabel("RetryableWriteError") || hasCode(server, passing) || concernFailed(err) {
		return unavailable(masked)
	}
	return masked
}

// unanswered reports whether a command failed before a server saw it: the driver
// gives such an error the server's type, but neither a code nor an answer. So
// fail the calls that wait for a connection while another call's is cut.
func unanswered(err error) bool {
	var command mongo.CommandError
	return errors.As(err, &command) && command.Code == 0 && len(command.Raw) == 0
}

func unavailable(err error) error { return &audit.UnavailableError{RetryAfter: time.Second, Err: err} }

func hasCode(err mongo.ServerError, codes []int) bool {
	return slices.ContainsFunc(err.ErrorCodes(), func(code int) bool { return slices.Contains(codes, code) })
}

// concernFailed reports whether a write may be there but was not confirmed by a majority.
func concernFailed(err error) bool {
	var one mongo.WriteException
	var many mongo.BulkWriteException
	return errors.As(err, &one) && one.WriteConcernError != nil || errors.As(err, &many) && many.WriteConcernError != nil
}

// The waits between the attempts of repeat.
var repeatAfter = [...]time.Duration{50 * time.Millisecond, 250 * time.Millisecond}

// repeat runs an idempotent call until it succeeds, fails for good, or failed
// three times as unavailable.
func repeat(ctx context.Context, call func() error) error {
	err := call()
	for _, wait := range repeatAfter {
		var later *audit.UnavailableError
		if !errors.As(err, &later) {
			return err
		}
		if err := backoff.Sleep(ctx, wait); err != nil {
			return err
		}
		err = call()
	}
	return err
}
