import { create } from "@bufbuild/protobuf";
import { CardSchema, CardsService, ListCardsResponseSchema } from "#contracts/polis/cardtest/v1/cardtest_pb.ts";
import { callerName } from "#platform/access/caller.ts";
import { find, query, streamedQuery } from "#platform/reads/query.ts";
import { reject } from "#platform/rejection.ts";
import { defineService } from "#platform/service.ts";
import { operation } from "#platform/writes/definitions.ts";
import { messageTable } from "#platform/writes/table.ts";
import { rowsOf } from "#platform/writes/table-statements.ts";

const cards = messageTable("cards", CardSchema);
const { method } = CardsService;

/** What a read does between what it finds and its answer. */
export type Between = (name: string) => Promise<unknown>;

/** A service whose answers are cached; `between` sees each that is made. */
export const cardsService = (between: Between) =>
  defineService(CardsService, {
    folder: import.meta.dirname,
    operations: {
      putCard: operation(method.putCard, {
        lock: ({ cardId }) => cards.row(cardId),
        write(tx, { cardId, text: written }, { locked }) {
          const card = create(CardSchema, { id: cardId, text: written });
          if (locked === undefined) tx.insert(cards, card);
          else tx.update(cards, card);
          tx.forget(method.getCard, cardId);
          tx.forget(method.getOwnCard, cardId);
          tx.forget(method.listCards);
          return card;
        },
      }),
      getCard: query(method.getCard, async ({ cardId }, { sql }) => {
        const card = await find(sql, cards.row(cardId));
        await between("GetCard");
        return card;
      }),
      getOwnCard: query(method.getOwnCard, async ({ cardId }, { sql, caller }) => {
        const card = await find(sql, cards.row(cardId));
        await between("GetOwnCard");
        return card && { ...card, reader: callerName(caller) };
      }),
      listCards: query(method.listCards, async ({ startsWith }, { sql }) => {
        const found = await sql.query({ text: "SELECT * FROM cards WHERE starts_with(id::text, $1) ORDER BY id", values: [startsWith] });
        await between("ListCards");
        return create(ListCardsResponseSchema, { cards: rowsOf(cards, found) });
      }),
      readCards: streamedQuery(method.readCards, async function* ({ cardIds }, { sql }) {
        for (const id of cardIds) {
          const card = await find(sql, cards.row(id));
          await between("ReadCards");
          if (card !== undefined) yield card;
        }
        yield reject("no_more_cards");
      }),
    },
  });
