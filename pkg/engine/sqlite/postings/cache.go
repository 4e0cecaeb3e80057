package postings

import (
	"container/list"
	"sync"
)

// Cache keeps the pages of segments that were read last. Several goroutines may use it at the same
// time. A nil Cache keeps nothing.
type Cache struct {
	mu     sync.Mutex
	room   int
	pages  map[pageID]*list.Element
	recent list.List // of cachedPage, the last one first
}

type pageID struct {
	segment int64
	page    int
}

type cachedPage struct {
	id   pageID
	data []byte
}

// cachedPageBytes is about how much memory a page in the cache needs beside its data.
const cachedPageBytes = 200

// NewCache returns a cache of so many bytes.
func NewCache(bytes int) *Cache {
	return &Cache{room: bytes, pages: map[pageID]*list.Element{}}
}

// Put adds a page that Build or Merge made. The segment must be committed: if its number could come
// again, with other pages, reads would find these.
func (c *Cache) Put(segment int64, page int, data []byte) {
	if c == nil {
		return
	}
	id := pageID{segment, page}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.pages[id]; known {
		return
	}
	c.pages[id] = c.recent.PushFront(cachedPage{id, data})
	c.room -= len(data) + cachedPageBytes
	for c.room < 0 {
		oldest := c.recent.Remove(c.recent.Back()).(cachedPage)
		delete(c.pages, oldest.id)
		c.room += len(oldest.data) + cachedPageBytes
	}
}

// get returns a page, nil if the cache does not have it.
func (c *Cache) get(segment int64, page int) []byte {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	element, known := c.pages[pageID{segment, page}]
	if !known {
		return nil
	}
	c.recent.MoveToFront(element)
	return element.Value.(cachedPage).data
}
