/*
 * notify.c
 *	  NOTIFY that never makes a transaction fail. A notification is a hint, its listeners look
 *	  for themselves anyway: one that is too long, or that would go into a queue that is filling
 *	  up (at the end of it the commit of every notifying transaction fails), is left out with a
 *	  warning.
 */
#include "compat.h"

#include "commands/async.h"
#include "utils/fmgrprotos.h"

#include "base/notify.h"

/* Of the queue's size: above this nothing optional is added. */
#define FULLEST_QUEUE 0.5

/*
 * True when the notification queue has room for something optional. Otherwise a WARNING says so:
 * ask once per batch of notifications.
 */
bool
notify_possible(void)
{
	double usage = DatumGetFloat8(DirectFunctionCall1(pg_notification_queue_usage, (Datum) 0));

	if (usage <= FULLEST_QUEUE)
		return true;
	ereport(WARNING,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("notifications left out: the notification queue is %.0f %% full", usage * 100),
			 errhint("Look for sessions that listen and stay in a transaction.")));
	return false;
}

/*
 * Send a notification at commit of the current (sub)transaction. Returns false, with a WARNING,
 * when it is too long.
 */
bool
notify_send(const char *channel, const char *payload)
{
	size_t length = strlen(payload);

	if (length > NOTIFY_LONGEST_PAYLOAD)
	{
		ereport(WARNING, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						  errmsg("notification on channel \"%s\" left out: its %zu bytes are more "
								 "than the %d that fit",
								 channel, length, NOTIFY_LONGEST_PAYLOAD)));
		return false;
	}
	Async_Notify(channel, payload);
	return true;
}
