package awsconfig

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// signer is shared: it caches the keys that it derives.
var signer = sync.OnceValue(func() *v4.Signer { return v4.NewSigner() })

// Sign signs a request with Signature Version 4 for a service in a region. It is for
// services whose SDK client is not linked. body is the request's body.
func Sign(ctx context.Context, cfg aws.Config, r *http.Request, body []byte, service, region string) error {
	credentials, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	sum := sha256.Sum256(body)
	if err := signer().SignHTTP(ctx, credentials, r, hex.EncodeToString(sum[:]), service, region, time.Now()); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	return nil
}

// Endpoint returns the configured address of a service, by the service's id in the SDK.
// It returns "" for the service's own address.
func Endpoint(ctx context.Context, cfg aws.Config, service string) string {
	for _, source := range cfg.ConfigSources {
		if named, ok := source.(endpoints); ok {
			if address, found, err := named.GetServiceBaseEndpoint(ctx, service); err == nil && found {
				return address
			}
		}
	}
	return aws.ToString(cfg.BaseEndpoint)
}
