// Package reasons explains each reason and each detail of a transition. finwait help reasons
// and docs/states.md show this list.
package reasons

import (
	"slices"

	"finwait/tracer"
)

// An Entry explains one reason, or one detail of a reason.
type Entry struct {
	Reason tracer.Reason
	Detail tracer.Detail // DetailNone: the reason as a whole

	What  string // what happened, and who did it
	Means string // what that usually means, and what to do

	// Counters are the kernel's counters that move with each such end, as nstat names them.
	// What moves in some cases only is in What.
	Counters []string

	Demo string // name of the demonstration that shows it; "": none does
}

// Word is the word that is explained, such as "aborted" or "unread_data".
func (e *Entry) Word() string {
	if e.Detail != tracer.DetailNone {
		return e.Detail.String()
	}
	return e.Reason.String()
}

// All returns the entries: each reason, followed by its details.
func All() []Entry { return slices.Clone(all) }

// About returns the entries of a word: a reason with its details, or one detail. It returns
// nothing for a word that is neither.
func About(word string) (about []Entry) {
	if word == "" {
		return nil
	}
	for _, e := range all {
		if e.Word() == word || e.Reason.String() == word {
			about = append(about, e)
		}
	}
	return about
}

// all is the list. Each counter was seen to move (TestExplained of internal/test/live), but for
// those whose comment names the kernel function.
var all = []Entry{
	// Orderly.
	{
		Reason: tracer.ReasonFinReceived,
		What:   "The peer's FIN arrived: the peer sends no more data.",
		Means:  "This is normal. The peer's program called close() or shutdown(), or it ended.",
		Demo:   "close",
	},
	{
		Reason: tracer.ReasonClosed,
		What:   "The connection closed in order: the peer acknowledged our FIN, the last of the two. A listener ends with this word when its program closes it.",
		Means:  "This is normal.",
		Demo:   "passive",
	},
	{
		Reason: tracer.ReasonExpired,
		What:   "The time limit of a closing connection passed, and the kernel removed the connection.",
		Means:  "The detail says which time limit it was.",
	},
	{
		Reason: tracer.ReasonExpired, Detail: tracer.DetailTimeWait,
		What:  "TIME_WAIT lasted its 60 s, and the kernel removed it.",
		Means: "This is normal. It never takes minutes, as is often said: no sysctl changes these 60 s, and the timer is at most one slot of the timer wheel late (2.048 s at HZ=250), unless a segment started it again. SO_REUSEADDR does not avoid TIME_WAIT: it lets bind() pass one, if the socket that closed had set it, too.",
		Demo:  "close",
	},
	{
		Reason: tracer.ReasonExpired, Detail: tracer.DetailOrphan,
		What:  "Our program had called close(), the peer did not close within net.ipv4.tcp_fin_timeout, and the kernel removed our end from FIN_WAIT_2.",
		Means: "The peer's program keeps a connection that is gone here, or the peer is gone itself. Many of these mean that the peer leaks connections in CLOSE_WAIT.",
		Demo:  "orphan",
	},

	// Other ends of TIME_WAIT and FIN_WAIT_2.
	{
		Reason: tracer.ReasonReused,
		What:   "A connect() of this host took over the addresses and ports of a connection in TIME_WAIT. net.ipv4.tcp_tw_reuse permits that, and so does a bound port, which can also take over FIN_WAIT_2 after close().",
		Means:  "This does no harm. It saves a client from running out of ports.",
		// Also where a bound connect() takes over FIN_WAIT_2 (__inet_check_established()).
		Counters: []string{"TcpExtTWRecycled"},
		Demo:     "reuse",
	},
	{
		Reason: tracer.ReasonRecycled,
		What:   "The peer sent a SYN with the addresses and ports of a connection that was in TIME_WAIT here, and the new connection replaced it.",
		Means:  "This does no harm. The peer uses its ports again within a minute.",
		Demo:   "recycle",
	},
	{
		Reason: tracer.ReasonRSTReceived,
		What:   "The peer sent an RST to a connection that was in TIME_WAIT, or in FIN_WAIT_2 after close().",
		Means:  "The peer's program closed without reading all that we sent, or the peer has forgotten the connection. net.ipv4.tcp_rfc1337=1 makes TIME_WAIT ignore RSTs.",
		Demo:   "rst-in-time-wait",
	},
	{
		Reason: tracer.ReasonTimeWaitOverflow,
		What:   "The kernel closed the connection without TIME_WAIT, because net.ipv4.tcp_max_tw_buckets was reached or there was no memory.",
		Means:  "The peer's FIN is now answered with an RST, so that its orderly close can end as an error. Raise tcp_max_tw_buckets.",
		// tcp_time_wait() counts it.
		Counters: []string{"TcpExtTCPTimeWaitOverflow"},
		Demo:     "overflow",
	},
	{
		Reason: tracer.ReasonRSTSent,
		What:   "A segment arrived after our program had closed the connection, and the kernel answered it with an RST.",
		Means:  "The detail says what arrived. Before Linux 6.11 it is unknown for an end that was in FIN_WAIT_2.",
		// tcp_v4_send_reset(), tcp_v6_send_response() count it.
		Counters: []string{"TcpOutRsts"},
	},
	{
		Reason: tracer.ReasonRSTSent, Detail: tracer.DetailDataAfterClose,
		What:     "The peer sent data after our program had called close(), when nobody could read them any more, and the kernel answered with an RST. TcpExtTCPAbortOnData moves too, unless the connection had been in FIN_WAIT_2 for a while.",
		Means:    "It is common with HTTPS, where the peer sends a last message on its own close, and does no harm there. Elsewhere data are lost: read up to the peer's end before close().",
		Counters: []string{"TcpOutRsts"},
		Demo:     "data-after-close",
	},
	{
		Reason: tracer.ReasonRSTSent, Detail: tracer.DetailOutOfWindow,
		What:     "The peer's FIN arrived in FIN_WAIT_2 while data before it were missing, and the kernel answered with an RST.",
		Means:    "The peer sent data after our program had called close(), and the network lost them or changed their order.",
		Counters: []string{"TcpOutRsts"},
	},
	{
		Reason: tracer.ReasonRSTSent, Detail: tracer.DetailSYN,
		What:     "The peer sent a SYN with the addresses and ports of a connection that was in FIN_WAIT_2 here, and the kernel answered with an RST.",
		Means:    "The peer has forgotten the connection, for example because it was restarted. Its connect() fails once; the next one succeeds.",
		Counters: []string{"TcpOutRsts"},
	},

	// connect() failed.
	{
		Reason:   tracer.ReasonRefused,
		What:     "The answer to our SYN was an RST or an ICMP port unreachable, and connect() failed with ECONNREFUSED.",
		Means:    "The machine is there, and nobody listens on that port, or a firewall rejects. Check the port, and whether the service runs.",
		Counters: []string{"TcpAttemptFails"},
		Demo:     "refused",
	},
	{
		Reason: tracer.ReasonGivenUp,
		What:   "Our program ended its connect() before there was an answer. The kernel does not count that. The errno, if there is one, is an ICMP error that arrived meanwhile.",
		Means:  "The program's own time limit was shorter than the kernel's, and the peer or a firewall did not answer. The detail says how the program ended it.",
	},
	{
		Reason: tracer.ReasonGivenUp, Detail: tracer.DetailClose,
		What:  "Our program called close() before connect() was done.",
		Means: "This is how most time limits on connect() work. Look for a firewall that drops SYNs, and for a peer that is down or overloaded.",
		Demo:  "given-up",
	},
	{
		Reason: tracer.ReasonGivenUp, Detail: tracer.DetailShutdown,
		What:  "Our program called shutdown() before connect() was done.",
		Means: "The same as by close().",
	},
	{
		Reason: tracer.ReasonGivenUp, Detail: tracer.DetailDisconnect,
		What:  "Our program called connect() with AF_UNSPEC before the first connect() was done, to use the socket again.",
		Means: "The same as by close(). Few programs do this.",
	},
	{
		Reason: tracer.ReasonGivenUp, Detail: tracer.DetailExit,
		What:  "Our process ended before connect() was done, by itself or by a signal.",
		Means: "Somebody stopped a program that was waiting for a peer.",
	},
	{
		Reason: tracer.ReasonUnreachable,
		What:   "An ICMP error, or a policy of this host, ended the connection; errno says which error the program got. In SYN_SENT TcpAttemptFails moves. IcmpInDestUnreachs counts the messages of IPv4.",
		Means:  "A router has no way to the peer, or a firewall rejects: check the routes and the firewalls on the way.",
	},
	{
		Reason: tracer.ReasonNoPort,
		What:   "connect() found no free local port for this destination and failed with EADDRNOTAVAIL. No SYN was sent.",
		Means:  "All ports of net.ipv4.ip_local_port_range are in use towards this destination, most of them usually in TIME_WAIT, or held by bind(). Keep connections open, or use more addresses. This is a trouble of the end that connects, such as a proxy: the connections of a server share its port, whatever TIME_WAITs it holds.",
		Demo:   "port-exhaustion",
	},
	{
		Reason: tracer.ReasonInUse,
		What:   "connect() failed with EADDRNOTAVAIL, because another socket has the same addresses and ports. No SYN was sent.",
		Means:  "The program bound a fixed local port, and an earlier connection from that port to this destination still exists.",
		Demo:   "in-use",
	},

	// The peer, or the network.
	{
		Reason: tracer.ReasonReset,
		What:   "The peer sent an RST. From ESTABLISHED and CLOSE_WAIT TcpEstabResets moves.",
		Means:  "The peer's program aborted or ended, or a device on the way did it. The reason is at the peer's end: trace there.",
		Demo:   "reset",
	},
	{
		Reason: tracer.ReasonReset, Detail: tracer.DetailDataUnacked,
		What:  "The peer sent an RST before it had acknowledged all our data, so that the RST may be its answer to them.",
		Means: "Most likely the peer had closed when our data arrived, or closed without reading them. They may be lost.",
		Demo:  "data-after-close",
	},
	{
		Reason: tracer.ReasonReset, Detail: tracer.DetailFINUnacked,
		What:  "The peer sent an RST before it had acknowledged our FIN, so that the RST may be its answer to the FIN.",
		Means: "Most likely the peer's end was already gone. What we sent last may be lost.",
		Demo:  "close-wait-leak",
	},
	{
		Reason: tracer.ReasonTimedOut,
		What:   "The peer did not answer within a time limit, and the kernel closed the connection. The program gets ETIMEDOUT.",
		Means:  "The peer or the way to it is gone, or a firewall drops segments. The detail says which time limit it was.",
		// tcp_write_err()
		Counters: []string{"TcpExtTCPAbortOnTimeout"},
	},
	{
		Reason: tracer.ReasonTimedOut, Detail: tracer.DetailRetransmissions,
		What:     "Our kernel sent a segment again and again, the peer never acknowledged it, and the limit was reached: net.ipv4.tcp_syn_retries for a SYN, tcp_retries2 for data, tcp_orphan_retries after close().",
		Means:    "In SYN_SENT the peer is down or a firewall drops SYNs. Later the peer or the way to it has gone.",
		Counters: []string{"TcpExtTCPAbortOnTimeout", "TcpExtTCPTimeouts"},
		Demo:     "timeout",
	},
	{
		Reason: tracer.ReasonTimedOut, Detail: tracer.DetailKeepalive,
		What:     "The connection was idle, and the peer did not answer the keepalive probes that our program had asked for. The kernel sends an RST, which TcpOutRsts counts.",
		Means:    "The peer or the way to it has gone, or a device on the way has forgotten the idle connection: send keepalives more often than its time limit.",
		Counters: []string{"TcpExtTCPAbortOnTimeout", "TcpExtTCPKeepAlive"},
		Demo:     "keepalive",
	},
	{
		Reason: tracer.ReasonTimedOut, Detail: tracer.DetailUserTimeout,
		What:     "What we sent, be it a keepalive probe, was not acknowledged within the TCP_USER_TIMEOUT that our program had set.",
		Means:    "The peer or the way to it has gone. The program chose to know that early.",
		Counters: []string{"TcpExtTCPAbortOnTimeout"},
	},
	{
		Reason: tracer.ReasonTimedOut, Detail: tracer.DetailZeroWindow,
		What:     "The peer had no room for more data, and then stopped answering the kernel's questions whether it has.",
		Means:    "The peer's program did not read, and then the peer or the way to it went away.",
		Counters: []string{"TcpExtTCPAbortOnTimeout"},
	},

	// Our own side.
	{
		Reason: tracer.ReasonAborted,
		What:   "Our own side ended the connection without an orderly close, in most cases with an RST. From ESTABLISHED and CLOSE_WAIT TcpEstabResets moves.",
		Means:  "Where an RST was sent, the peer gets \"connection reset by peer\". The detail says what ended the connection.",
	},
	{
		Reason: tracer.ReasonAborted, Detail: tracer.DetailUnreadData,
		What:     "Our program called close() while data that had arrived were unread, and the kernel sent an RST in place of a FIN.",
		Means:    "The peer gets an error, and what we had sent may be lost with it. Read up to the peer's end before close().",
		Counters: []string{"TcpExtTCPAbortOnClose", "TcpOutRsts"},
		Demo:     "unread-data",
	},
	{
		Reason: tracer.ReasonAborted, Detail: tracer.DetailLingerZero,
		What:     "Our program had set SO_LINGER to 0 s and called close(): the kernel sent an RST and threw away what was not sent yet.",
		Means:    "Somebody wanted no TIME_WAIT. The price is lost data, and errors at the peer.",
		Counters: []string{"TcpExtTCPAbortOnData"},
		Demo:     "linger-zero",
	},
	{
		Reason: tracer.ReasonAborted, Detail: tracer.DetailDisconnected,
		What:  "Our program called connect() with AF_UNSPEC on a connection, to use the socket again. The kernel sends an RST, but in LAST_ACK and CLOSING only if not all data were sent.",
		Means: "The program did not want the connection any more. Few programs do this.",
	},
	{
		Reason: tracer.ReasonAborted, Detail: tracer.DetailLinger2,
		What:     "Our program had set TCP_LINGER2 below 0, so that the kernel ended FIN_WAIT_2 at once with an RST. TcpExtTCPAbortOnLinger or TcpExtTCPAbortOnData moves.",
		Means:    "Somebody wanted no FIN_WAIT_2. The peer's orderly close ends as an error.",
		Counters: []string{"TcpOutRsts"},
	},
	{
		Reason: tracer.ReasonAborted, Detail: tracer.DetailListenerClosed,
		What:     "Our server closed its listener, and connections that it had not accepted yet died with it. The kernel sent each of them an RST.",
		Means:    "A server was stopped or restarted while clients were waiting. For them connect() had succeeded. Stop sending clients to a server before you stop it.",
		Counters: []string{"TcpOutRsts"},
		Demo:     "listener-closed",
	},
	{
		Reason: tracer.ReasonAborted, Detail: tracer.DetailOrphanLimit,
		What:  "The kernel closed a connection that no process held any more, because there were more of them than net.ipv4.tcp_max_orphans, or TCP was short of memory (tcp_mem).",
		Means: "Peers do not acknowledge what a busy server has sent last, or there is an attack. Look at the number of orphans in ss -s.",
		// tcp_out_of_resources(), __tcp_close(): read, not seen
		Counters: []string{"TcpExtTCPAbortOnMemory"},
	},
	{
		Reason: tracer.ReasonAborted, Detail: tracer.DetailCheckpoint,
		What:  "Our program closed a socket in TCP_REPAIR mode. Nothing was sent.",
		Means: "A container was saved, to be moved or continued later (CRIU). The peer notices nothing.",
	},
	{
		Reason: tracer.ReasonAborted, Detail: tracer.DetailListenFailed,
		What:  "Our program called listen(), and the port was taken.",
		Means: "Another listener has the port: ss -ltnp shows which.",
	},

	// From outside.
	{
		Reason: tracer.ReasonDestroyed,
		What:   "A tool with the rights to do so closed the socket (SOCK_DESTROY), as ss -K does. The program gets ECONNABORTED. TcpOutRsts moves if the peer got an RST.",
		Means:  "An administrator or a network manager did it.",
	},
	{
		Reason: tracer.ReasonNetNSRemoved,
		What:   "The network namespace of the connection was removed, and the connection with it. No segment was sent.",
		Means:  "This is normal when a container ends.",
	},
	{
		Reason: tracer.ReasonKilled,
		What:   "The connection ended, and finwait does not know why.",
		Means:  "Please report the kernel's version and how to reproduce it.",
	},
}
