package tracer

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"
	"unsafe"

	"finwait/internal/ktime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// A SocketWalk lists the TCP sockets of many network namespaces at a time. The kernel keeps those of
// all namespaces in one table, which sock_diag(7) walks once for each namespace. A SocketWalk walks it
// once. It asks for no more rights than New: CAP_BPF and CAP_PERFMON; and for Linux 5.17 (bpf_loop()).
type SocketWalk struct {
	coll   *ebpf.Collection
	memory *ebpf.Memory
	hz     uint32

	mu     sync.Mutex
	tables map[uint64]uint32 // of what is connected or connects: number of buckets, less one, by address
	bound  map[uint64]uint32 // of what is bound
}

// NewSocketWalk loads the programs.
func NewSocketWalk() (*SocketWalk, error) {
	hz, err := ktime.HZ()
	if err != nil {
		return nil, err
	}
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("read the embedded BPF object: %w", err)
	}
	types := kernelTypesCache()
	kernel, err := kernelTypes(types)
	if err != nil {
		return nil, err
	}
	var of *btf.Func
	if err := spec.Variables[bpfVarUidOfFile].Set(flag(kernel.TypeByName("sock_i_uid", &of) == nil)); err != nil {
		return nil, fmt.Errorf("set a constant of the BPF object: %w", err)
	}
	for name := range spec.Programs {
		if !slices.Contains(walkPrograms, name) {
			delete(spec.Programs, name)
		}
	}
	for name := range spec.Maps {
		if name != bpfMapWalks && name != ".rodata" {
			delete(spec.Maps, name)
		}
	}
	spec.Variables = nil
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Cache: types})
	if err != nil {
		return nil, explainLoad(err, types)
	}
	memory, err := coll.Maps[bpfMapWalks].Memory()
	if err != nil {
		coll.Close()
		return nil, fmt.Errorf("map the rows of sockets into memory: %w", err)
	}
	return &SocketWalk{coll: coll, memory: memory, hz: hz, tables: make(map[uint64]uint32), bound: make(map[uint64]uint32)}, nil
}

// Close gives everything back.
func (w *SocketWalk) Close() { w.coll.Close() }

var errNoTable = errors.New("the kernel's table of sockets cannot be found")

// leastTable is the least number of buckets of a table that is walked. A smaller one can be that of
// a namespace (tcp_child_ehash_entries, 6.1), whose owner could fill a bucket with more sockets than
// there is room for. sock_diag(7) walks it fast.
const leastTable = 4096

// Include has Sockets list the network namespace of the calling thread, and all others that share
// its table. It reports whether Sockets does: not if the table is small.
func (w *SocketWalk) Include() (listed bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if failed, err := w.coll.Programs[bpfProgFindTable].Run(nil); err != nil {
		return false, fmt.Errorf("find the kernel's table of sockets: %w", err)
	} else if failed != 0 {
		return false, errNoTable
	}
	var head walkHead
	if err := w.readAt(head.bytes(), 0); err != nil {
		return false, err
	}
	if head.mask+1 < leastTable {
		return false, nil
	}
	w.tables[head.table] = head.mask
	if head.boundTable != 0 {
		w.bound[head.boundTable] = head.boundMask
	}
	return true, nil
}

// walkHead is a bpfWalk without its cursor and its rows.
type walkHead struct {
	table, boundTable                        uint64
	boundMask, mask, bucket, states, rows, _ uint32
}

func (h *walkHead) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(h)), unsafe.Sizeof(*h))
}

func (w *SocketWalk) readAt(to []byte, at uintptr) error {
	if _, err := w.memory.ReadAt(to, int64(at)); err != nil {
		return fmt.Errorf("read the rows of sockets: %w", err)
	}
	return nil
}

// idleRuns is how often a run may list no bucket, because that changes all the time.
const idleRuns = 100

// Sockets calls fn for every socket in one of the given states that is neither a listener nor only
// bound, some at a time; what fn is given is valid until it returns. Bit n of states is for state
// number n. An error of fn ends Sockets, which returns it.
//
// A socket that is added, is removed or becomes a minisock meanwhile may be listed, missed or,
// rarely, listed twice. All that is said of a socket is of that socket.
func (w *SocketWalk) Sockets(states uint32, fn func([]WalkedSocket) error) error {
	// A socket that has just left the table is CLOSED.
	return w.walk(w.coll.Programs[bpfProgWalkTable], w.tables, states&^(1<<Closed), fn)
}

// Bound is Sockets for those that are bound to a port, and neither listen nor connect, nor are
// connected; their state is CLOSED. It needs Linux 6.8. It fails if more than 2,048 of them have
// ports of one bucket, which whoever binds them can bring about.
func (w *SocketWalk) Bound(fn func([]WalkedSocket) error) error {
	return w.walk(w.coll.Programs[bpfProgWalkBound], w.bound, 0, fn)
}

func (w *SocketWalk) walk(p *ebpf.Program, tables map[uint64]uint32, states uint32, fn func([]WalkedSocket) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	from, to := make([]bpfWalkedSocket, len(bpfWalk{}.Row)), make([]WalkedSocket, len(bpfWalk{}.Row))
	for table, mask := range tables {
		head := walkHead{table: table, mask: mask, states: states}
		if _, err := w.memory.WriteAt(head.bytes(), 0); err != nil {
			return fmt.Errorf("ask for sockets: %w", err)
		}
		for idle := 0; head.bucket <= mask; {
			before := head.bucket
			if _, err := p.Run(nil); err != nil {
				return fmt.Errorf("walk the kernel's table of sockets: %w", err)
			}
			if err := w.readAt(head.bytes(), 0); err != nil {
				return err
			}
			if head.bucket == before {
				if idle++; idle > idleRuns {
					return fmt.Errorf("bucket %d of the kernel's table of sockets cannot be read: it changes too fast, or is too long", before)
				}
				runtime.Gosched()
				continue
			}
			idle = 0
			rows := from[:head.rows]
			if err := w.readAt(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(rows))), len(rows)*int(unsafe.Sizeof(rows[0]))),
				unsafe.Offsetof(bpfWalk{}.Row)); err != nil {
				return err
			}
			for i := range rows {
				w.decode(&rows[i], &to[i])
			}
			if err := fn(to[:len(rows)]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *SocketWalk) decode(from *bpfWalkedSocket, to *WalkedSocket) {
	*to = WalkedSocket{
		NetNSCookie: from.Tuple.NetnsCookie, Cookie: from.Cookie, CgroupID: from.CgroupId, Inode: from.Inode,
		Interface: from.Interface, UID: from.Uid, RecvQueue: from.RecvQueue, SendQueue: from.SendQueue,
		Family: from.Family, State: State(from.State), Minisock: from.Minisock != 0, MPTCP: from.Mptcp != 0,
		Timer: from.Timer, Retries: from.Retries,
		TimerLeft: w.millis(uint64(max(0, from.TimerLeft))),
	}
	if to.State != NewSynRecv && !to.Minisock {
		to.DataSent, to.DataReceived, to.AckReceived = w.millis(uint64(from.DataSent)), w.millis(uint64(from.DataReceived)), w.millis(uint64(from.AckReceived))
	}
	local, remote := netip.AddrFrom16(from.Tuple.Saddr), netip.AddrFrom16(from.Tuple.Daddr)
	if from.Tuple.Family == unix.AF_INET {
		local, remote = netip.AddrFrom4([4]byte(from.Tuple.Saddr[:4])), netip.AddrFrom4([4]byte(from.Tuple.Daddr[:4]))
	}
	to.Local, to.Remote = netip.AddrPortFrom(local, from.Tuple.Sport), netip.AddrPortFrom(remote, from.Tuple.Dport)
}

// millis is jiffies_to_msecs() (kernel/time/time.c): rounded up, in 32 bits.
func (w *SocketWalk) millis(jiffies uint64) time.Duration {
	hz := uint64(w.hz)
	return time.Duration(uint32((jiffies*1000+hz-1)/hz)) * time.Millisecond
}
