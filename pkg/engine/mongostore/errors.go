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
	"github.com/ocelot-audit/ocelot/pkg/ingest"
)

// Error codes of the server. The driver has types for the errors, but no names
// for their codes, which are those of MongoDB's src/mongo/base/error_codes.yml.
const (
	codeHostUnreachable       = 6
	codeHostNotFound          = 7
	codeAuthenticationFailed  = 18 // also after the password was rotated, until this process has the new one
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
	codeNamespaceNotFound     = 26
	codeCollectionChanged     = 361   // CollectionUUIDMismatch
	codeUnknownField          = 40415 // of a command
)

// transientCodes are the codes of states that end by themselves.
var transientCodes = []int{
	codeHostUnreachable, codeHostNotFound, codeAuthenticationFailed, codeMaxTimeExpired, codeWriteConcernTimeout, codeNetworkTimeout, codeShutdown,
	codeWriteConflict, codeReadConcernNotYet, codePrimarySteppedDown, codeExceededTime, codeIndexBuildAborted, codeTooBusy, codeSocket,
	codeNotPrimary, codeInterruptedAtShutdown, codeInterruptedByElection, codeIndexBuildUnderWay, codeNotPrimaryNoSecondary, codeNotPrimaryOrSecondary,
}

// documentCodes are the codes of permanent faults of one document.
var documentCodes = []int{
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

// failure converts an error of the driver. It returns the context's error if the
// context ended, and an *audit.UnavailableError if a retry may succeed. Its text
// has no content of documents.
func failure(ctx context.Context, err error) error {
	var server mongo.ServerError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err() // the error of the interrupted call may be misleading
	case errors.Is(err, mongo.ErrClientDisconnected):
		return errClosed
	case mongo.IsNetworkError(err) || unanswered(err) || !errors.As(err, &server):
		// No server answered. The driver itself refuses only calls that this
		// package does not make.
		return unavailable(fmt.Errorf("mongodb: %w", err))
	}
	masked := &serverFailure{codes: server.ErrorCodes(), err: err}
	if server.HasErrorLabel("RetryableWriteError") || hasCode(server, transientCodes) || unconfirmed(err) {
		return unavailable(masked)
	}
	return masked
}

// unanswered reports whether a command failed before a server received it. The
// driver gives such an error the server's type, but neither a code nor a reply.
// A call gets it if it waits for a connection while another call's is cut.
func unanswered(err error) bool {
	var command mongo.CommandError
	return errors.As(err, &command) && command.Code == 0 && len(command.Raw) == 0
}

func unavailable(err error) error { return &audit.UnavailableError{RetryAfter: time.Second, Err: err} }

func hasCode(err mongo.ServerError, codes []int) bool {
	return slices.ContainsFunc(err.ErrorCodes(), func(code int) bool { return slices.Contains(codes, code) })
}

// unconfirmed reports whether a write may be stored but was not confirmed by a majority.
func unconfirmed(err error) bool {
	var one mongo.WriteException
	var many mongo.BulkWriteException
	return errors.As(err, &one) && one.WriteConcernError != nil || errors.As(err, &many) && many.WriteConcernError != nil
}

// retryDelays are the delays before the second and the third attempt of retry.
var retryDelays = [...]time.Duration{50 * time.Millisecond, 250 * time.Millisecond}

// retry runs an idempotent operation, up to three times while it fails with an
// *audit.UnavailableError. It leaves a closed partition to the message that comes again.
func retry(ctx context.Context, operation func() error) error {
	err := operation()
	for _, delay := range retryDelays {
		if !audit.IsUnavailable(err) || errors.Is(err, ingest.ErrPeriodClosed) {
			return err
		}
		if err := backoff.Sleep(ctx, delay); err != nil {
			return err
		}
		err = operation()
	}
	return err
}
