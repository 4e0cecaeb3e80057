package mongostore

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// DropTokens implements erasure.Entries.
func (s *Entries) DropTokens(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID, key protect.KeyRef) error {
	const element = "element"
	named := bson.E{Key: fieldEncrypted + "." + fieldKeyName, Value: key.Subject.String()}
	update := bson.D{{Key: "$unset", Value: bson.D{{Key: fieldEncrypted + ".$[" + element + "]." + fieldTokens, Value: ""}}}}
	o := options.UpdateMany().SetArrayFilters([]any{bson.D{
		{Key: element + "." + fieldKeyName, Value: key.Subject.String()}, {Key: element + "." + fieldGeneration, Value: int64(key.Generation)},
	}})
	err := s.eachPartition(ctx, tenant, ids, func(c *mongo.Collection, entries bson.D) error {
		_, err := c.UpdateMany(ctx, append(entries, named), update, o)
		return err
	})
	if err != nil {
		return fmt.Errorf("drop tokens of %d entries of %s: %w", len(ids), tenant, err)
	}
	return nil
}
