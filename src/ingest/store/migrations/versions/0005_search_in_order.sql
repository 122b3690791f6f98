-- Search in the order of ids. See docs/decisions/0017-search-goes-by-neighbourhood.md.

DROP INDEX ix_contact_search;
DROP FUNCTION contacts_with_terms(bigint[], integer);
DROP FUNCTION search_terms(bigint, text);

-- The neighbourhood of a contact: all whose ids are the same but for the last bits. It is a term like those of the text.
CREATE FUNCTION neighbourhood_term(workspace bigint, contact bigint, bits integer) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
    SELECT hashtextextended('#' || bits || ':' || (contact >> bits), workspace)
$$;

-- What a contact can be found by, as hashes that differ from workspace to workspace: its neighbourhoods of three sizes;
-- every three characters in a row of its search text; the first one and two of each word; every ideograph. A GIN index of
-- these finds parts of names without an extension. A query of three characters or more is looked up by its own threes, a
-- shorter one by word starts.
CREATE FUNCTION search_terms(workspace bigint, contact bigint, words text) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT AS $$
DECLARE
    terms bigint[] := array[
        hashtextextended('#12:' || (contact >> 12), workspace),
        hashtextextended('#16:' || (contact >> 16), workspace),
        hashtextextended('#20:' || (contact >> 20), workspace)];
    line text;
    word text;
    ideograph text;
BEGIN
    FOREACH line IN ARRAY string_to_array(words, E'\n') LOOP
        FOR position IN 1 .. length(line) - 2 LOOP
            terms := terms || hashtextextended(substr(line, position, 3), workspace);
        END LOOP;
    END LOOP;
    FOREACH word IN ARRAY regexp_split_to_array(words, '[^[:alnum:]]+') LOOP
        IF word <> '' THEN
            terms := terms || array[hashtextextended('^' || left(word, 1), workspace),
                                    hashtextextended('^' || left(word, 2), workspace)];
        END IF;
    END LOOP;
    IF octet_length(words) > length(words) THEN
        FOREACH ideograph IN ARRAY string_to_array(regexp_replace(words, '[^\u2E80-\uD7FF\uF900-\uFAFF]', '', 'g'), NULL) LOOP
            terms := terms || hashtextextended('*' || ideograph, workspace);
        END LOOP;
    END IF;
    RETURN terms;
END
$$;

-- Terms that everything containing the query has; null for a query that has none. Threes side by side say as much as
-- overlapping ones, and each costs the index a list to go through: so every third one, and the last.
CREATE OR REPLACE FUNCTION query_terms(workspace bigint, query text) RETURNS bigint[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
    SELECT CASE
        WHEN length(query) > 2 THEN
            array(SELECT DISTINCT hashtextextended(substr(query, least(i, length(query) - 2), 3), workspace)
                  FROM generate_series(1, length(query), 3) AS i)
        WHEN query ~ '^[\u2E80-\uD7FF\uF900-\uFAFF]+$' THEN
            array(SELECT hashtextextended('*' || letter, workspace) FROM unnest(string_to_array(query, NULL)) AS letter)
        WHEN query ~ '^[[:alnum:]]+$' THEN array[hashtextextended('^' || query, workspace)]
    END
$$;

-- Its condition is spelled unlike those of the other indexes, so that a statement which says so has this one alone to go by.
CREATE INDEX ix_contact_search ON contact USING gin (search_terms(workspace_id, id, search_text))
    WHERE coalesce(deletion_job_id, 0) = 0;

-- The query's terms without those that nine in ten of the first contacts have, such as the country's part of a phone: going
-- through such a term's list takes long and turns hardly anybody down. All of its terms where none would be left.
CREATE FUNCTION telling_terms(workspace bigint, query text) RETURNS bigint[]
LANGUAGE sql STABLE AS $$
    WITH sample AS MATERIALIZED (
        SELECT search_text FROM contact
        WHERE workspace_id = workspace AND merged_into IS NULL AND deletion_job_id IS NULL AND blocked_at IS NULL
        ORDER BY id LIMIT 50
    ), part AS MATERIALIZED (
        SELECT DISTINCT substr(query, least(i, length(query) - 2), 3) AS letters
        FROM generate_series(1, length(query), 3) AS i
        WHERE length(query) > 3
    )
    SELECT coalesce(array_agg(hashtextextended(letters, workspace)), query_terms(workspace, query)) FROM part
    WHERE (SELECT count(*) FILTER (WHERE strpos(search_text, letters) > 0) * 10 < count(*) * 9 FROM sample)
$$;

-- The workspace's next contact beyond an id, or null.
CREATE FUNCTION next_contact(workspace bigint, beyond bigint, is_descending boolean) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public SET enable_indexscan = on AS $$
BEGIN
    IF is_descending THEN
        RETURN (SELECT id FROM public.contact WHERE workspace_id = workspace AND id < beyond
                ORDER BY workspace_id DESC, id DESC LIMIT 1);
    END IF;
    RETURN (SELECT id FROM public.contact WHERE workspace_id = workspace AND id > beyond
            ORDER BY workspace_id, id LIMIT 1);
END
$$;

-- The first contacts beyond an id, in the order of ids, that have all the terms and whose text is like the pattern. A null
-- for no terms.
--
-- Row-level security lets no operator that might leak into an index condition, and array containment is one. So this
-- lookup runs with its owner's rights and holds the wall itself: it never leaves the workspace of the session. It leaves the
-- planner no way to the rows but the index of terms, whatever the statistics say: all others would work out everybody's terms.
--
-- Where few have the terms, one look finds them all. Else it goes from neighbourhood to neighbourhood: to wider ones the
-- longer it finds too little, to narrower ones where it finds more than need be read. So neither a text that few contacts
-- have nor one that many at the far end have takes long.
CREATE FUNCTION contacts_with_terms(terms bigint[], pattern text, beyond bigint, is_descending boolean, at_most integer)
RETURNS SETOF bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 200
SET search_path = pg_catalog, public SET enable_seqscan = off SET enable_indexscan = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    workspace constant bigint := current_setting('ingest.workspace_id')::bigint;
    most constant integer := greatest(at_most, 2000);
    patience constant integer := 16;
    -- 63: everybody.
    bits integer := 63;
    tries integer := 0;
    at bigint;
    wanted integer := at_most;
    looked_for bigint[];
    found bigint[];
BEGIN
    IF terms IS NULL THEN
        RETURN NEXT NULL;
        RETURN;
    END IF;
    at := public.next_contact(workspace, beyond, is_descending);
    WHILE at IS NOT NULL AND wanted > 0 LOOP
        looked_for := CASE bits WHEN 63 THEN terms ELSE terms || public.neighbourhood_term(workspace, at, bits) END;
        found := array(
            SELECT id FROM public.contact
            WHERE public.search_terms(workspace_id, id, search_text) @> looked_for
              AND workspace_id + 0 = workspace AND CASE WHEN is_descending THEN id <= at ELSE id >= at END
              AND (pattern IS NULL OR search_text LIKE pattern)
              AND merged_into IS NULL AND coalesce(deletion_job_id, 0) = 0
            LIMIT CASE WHEN bits > 12 THEN most + 1 END);
        IF cardinality(found) > most AND bits > 12 THEN
            bits := CASE bits WHEN 63 THEN 16 ELSE bits - 4 END;
            tries := 0;
            CONTINUE;
        END IF;
        RETURN QUERY SELECT id FROM unnest(found) AS id
                     ORDER BY CASE WHEN is_descending THEN -id ELSE id END LIMIT wanted;
        EXIT WHEN bits = 63;
        wanted := wanted - cardinality(found);
        at := CASE WHEN is_descending THEN (at >> bits) << bits ELSE (((at >> bits) + 1) << bits) - 1 END;
        at := public.next_contact(workspace, at, is_descending);
        tries := tries + 1;
        IF tries >= patience AND bits < 20 THEN
            bits := bits + 4;
            tries := 0;
        END IF;
    END LOOP;
END
$$;
