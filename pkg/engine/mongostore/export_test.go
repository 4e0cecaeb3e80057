package mongostore

// What is tested without a server.
var (
	EntryDocument  = entryDocument
	ReadEntry      = readEntry
	Convert        = convert
	ParsePartition = parsePartition
	Failure        = failure
	ItemFaults     = itemFaults
)

// PartitionName returns the name of a partition.
func (p partition) Name() string { return p.String() }

// Tenant returns the one tenant of a partition, "" where it is shared.
func (p partition) Tenant() string { return string(p.tenant) }

// Own returns the tenant's own partition of the month of a shared one.
var Own = partition.of

// Shared is the shared partition of a time.
var Shared = sharedPartition
